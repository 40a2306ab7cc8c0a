"""`python -m replication`: the two studies of studies/paper as a grid. What make paper-core and findings call."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import titrant

app = typer.Typer(no_args_is_help=True, help="The two studies as a grid of runs, and what is found from kept scores.")

Size = Annotated[str, typer.Argument(help="core, extended or full")]
Blocks = Annotated[list[str] | None, typer.Option("--block", help="only this block; may be given several times")]
Studies = Annotated[Path, typer.Option(help="the folder of the sizes, with a YAML file a block in each")]
Scores = Annotated[Path | None, typer.Option(help="where scores are kept (default: scores, beside the sizes)")]
Work = Annotated[Path, typer.Option(help="the folder of the local stores of unfinished work")]
STUDIES, WORK = Path("studies/paper"), Path("titrations/paper")


@app.command(epilog="Example: python -m replication run core --block falsehood")
def run(
    size: Size,
    block: Blocks = None,
    studies: Studies = STUDIES,
    scores: Scores = None,
    work: Work = WORK,
    jobs: Annotated[str, typer.Option(help="worker processes: a number or auto")] = "auto",
) -> None:
    """Run what is not kept yet, keep the scores of every run as it ends. Stop it whenever you like."""
    from replication.grid import run_grid

    if jobs != "auto" and not jobs.isdecimal():
        raise titrant.UserError("not a number of jobs", where="--jobs", got=jobs, expected="auto, or 1 to 1024")
    places = _places(size, studies, scores, work)
    run_grid(places, blocks=block or [], jobs="auto" if jobs == "auto" else int(jobs), say=_say, on_event=_heard)


@app.command(epilog="Example: python -m replication plan core")
def plan(
    size: Size, block: Blocks = None, studies: Studies = STUDIES, scores: Scores = None, work: Work = WORK
) -> None:
    """How far every block is, and the tokens that are left, as a JSON object a line."""
    from replication.grid import progress

    places = _places(size, studies, scores, work)
    for name in block or places.blocks():
        print(json.dumps(asdict(progress(places, name))))


@app.command(epilog="Example: python -m replication findings")
def findings(
    scores: Annotated[Path, typer.Option(help="where scores are kept")] = STUDIES / "scores",
    out: Annotated[Path, typer.Option(help="the page to write; its figures go beside it")] = Path("docs/findings.md"),
) -> None:
    """Write the findings from kept scores alone."""
    from replication.findings import write_findings

    for path in write_findings(scores, out):
        print(path)


def _places(size: str, studies: Path, scores: Path | None, work: Path) -> Any:
    from replication.grid import GridPlaces

    if not (studies / size).is_dir():
        there = ", ".join(sorted(path.name for path in studies.glob("*") if any(path.glob("*.yaml")))) or "none"
        raise titrant.UserError("no such size", where=str(studies), got=size, expected=there)
    return GridPlaces(size=size, studies=studies / size, scores=scores or studies / "scores", work=work)


def _heard(event: Any) -> None:
    if event.kind in ("started", "done", "failed"):
        _say(f"{event.run_id} {event.kind} {event.message}".rstrip())


def _say(text: str) -> None:
    print(f"titrant: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line: an error that is meant for people is one line, and its exit code says its kind."""
    # Many small products: threads of numpy's own cost far more than they bring, and another number of them moves the
    # last digits of figures.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except titrant.TitrantError as error:
        _say(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
