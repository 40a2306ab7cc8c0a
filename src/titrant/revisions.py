"""Hand-raised numbers, one a room: raise it with every change of that room that can move a result (the last bit of a
weight or of a log-probability too). They are part of every run's name and of every checkpoint's, so that old work is
never confused with new. They stand here, and only here, since runs are named without importing the rooms."""

REVISIONS = {"identity": 1, "mixing": 1, "tokens": 1, "training": 5, "inference": 3}
