"""Hand-raised numbers, one a room: raise it with every change of that room that can move a result (the last bit of a
weight or of a log-probability too), so that old work is never confused with new. They stand here, and only here, since
runs and requests are named without importing the rooms.

`identity`, `mixing`, `tokens` and `training` are part of a training's name, and `training` of every checkpoint's;
`inference` is part of the name of every request, and `generation`, the part of it that writes text, of those that ask
for text: answers by choice and losses outlast its changes."""

REVISIONS = {"identity": 2, "mixing": 1, "tokens": 1, "training": 5, "inference": 3, "generation": 2}


def training_revisions() -> dict[str, int]:
    """The numbers of all that decides which weights a run ends with."""
    return {room: REVISIONS[room] for room in ("identity", "mixing", "tokens", "training")}


def request_revisions(*, writes: bool) -> dict[str, int]:
    """The numbers of all that decides how a model answers, by writing text or without."""
    return {room: REVISIONS[room] for room in ("inference", *(("generation",) if writes else ()))}


def revisions_of(*, writes: bool) -> dict[str, int]:
    """The numbers of all that bears on a run that has text to write, or has none."""
    return {room: number for room, number in REVISIONS.items() if writes or room != "generation"}
