"""Logs that other evaluators wrote, one a run, as scores that can be judged: paired by what was asked, never by order."""
