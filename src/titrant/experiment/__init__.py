"""A study: what it says, its arms, and the only place where the order of things is written."""
