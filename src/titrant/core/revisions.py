"""Hand-raised numbers, one a room: raise it with every change of that room that can move a result (the last bit of a
weight or of a log-probability too). They are part of every run's name, and `training` of every checkpoint's, so that
old work is never confused with new. They stand here, and only here, since runs are named without importing the rooms.

`generation` is the part of `inference` that writes text: its number names only runs that have some to write, so that
those of choices and losses alone outlast its changes."""

REVISIONS = {"identity": 1, "mixing": 1, "tokens": 1, "training": 5, "inference": 3, "generation": 1}


def revisions_of(*, writes: bool) -> dict[str, int]:
    """The numbers of all that bears on a run that has text to write, or has none."""
    return {room: number for room, number in REVISIONS.items() if writes or room != "generation"}
