"""Logs that other evaluators wrote, one a run, as scores to judge: paired by what was asked, never by order."""
