"""Hand-raised numbers: raise one when a change of that room can change a result, so that old runs are not confused
with new ones. Part of every run's name."""

REVISIONS = {"identity": 1, "mixing": 1, "tokens": 1, "training": 1, "inference": 1}
