"""One arm's exact rows as a file, for any trainer: what Titrant would train on, in the shapes the field uses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from titrant.core.errors import DataError, SpecError
from titrant.core.identity import fingerprint, plain
from titrant.core.records import Example
from titrant.data.readers import FileNote
from titrant.experiment.design import Design, PlannedRun
from titrant.storage.atomic import write_bytes
from titrant.storage.json_files import write_json

Format = Literal["messages", "alpaca", "prompt-completion"]
FORMATS: tuple[Format, ...] = get_args(Format)


class Mix(NamedTuple):
    """One arm's exact rows, and what was asked and got. Unpacks as `rows, sidecar`.

    `rows` are plain dicts in the order of their first visit in training; each carries `source` and `id`. A row stands
    once, or as often as the dose repeats it. `sidecar` holds the arm, the seed, asked and got counts of each source,
    steps, tokens, training settings and a fingerprint of the rows.
    """

    rows: list[dict[str, Any]]
    sidecar: dict[str, Any]

    def write(self, path: str | Path) -> WrittenMix:
        """Write the rows as JSON Lines, and the sidecar beside them as PATH.mix.json."""
        out = Path(path)
        text = "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in self.rows)
        write_bytes(out, text.encode("ascii"))
        sidecar = out.with_name(out.name + ".mix.json")
        write_json(sidecar, self.sidecar)
        return WrittenMix(path=out, sidecar=sidecar, rows=len(self.rows), facts=self.sidecar)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenMix:
    """The rows that were written and what was asked of each source."""

    path: Path
    sidecar: Path
    rows: int
    facts: dict[str, Any]


def find_run(
    design: Design,
    *,
    target_rows: int,
    doses: dict[str, int],
    seed: int,
    target: str | None,
    model: str | None,
    matched: bool = False,
) -> PlannedRun:
    """The run of the arm with these rows at this seed; an error that lists the arms where there is none. `matched` asks
    for the baseline of as many steps as the largest dose: the rows of the plain one, visited more often."""
    for arm in design.arms:
        same = arm.target_rows == target_rows and {dose.label: dose.rows for dose in arm.doses} == doses
        right_target = target is None or not arm.target or arm.target == target
        if (
            same
            and right_target
            and (model is None or arm.model == model)
            and arm.kind != "untuned"
            and (arm.kind == "matched") == matched
        ):
            return design.cell(arm, seed)
    asked = f"{target_rows} target rows with " + (", ".join(f"{k}={v}" for k, v in doses.items()) or "no dose")
    asked += ", matched" if matched else ""
    names = dict.fromkeys(arm.name for arm in design.arms if arm.kind != "untuned")
    raise SpecError("the study has no such arm", got=asked, expected="one of " + ", ".join(names))


def write_mix(
    planned: PlannedRun, out: Path, *, form: Format = "messages", not_read: Sequence[FileNote] = ()
) -> WrittenMix:
    """Write the run's rows as JSON Lines and a sidecar with asked and got counts, fingerprint and what was not read."""
    return mix_of(planned, form=form, not_read=not_read).write(out)


def mix_of(planned: PlannedRun, *, form: Format = "messages", not_read: Sequence[FileNote] = ()) -> Mix:
    """The run's rows, in the order of their first visit in training, with what was asked and got.

    Passes and steps are in the sidecar. Plain text stands as `text` in every form: nothing is asked in it, and all of
    it is learned.
    """
    assert planned.plan is not None, "the untuned model has no rows"
    if form not in FORMATS:
        raise SpecError("no such format", where="format", got=form, expected=", ".join(FORMATS))
    seen: dict[int, None] = {}
    for step in planned.plan.steps:
        seen.update(dict.fromkeys(step))
    rows = [_row(planned.examples[index], form) for index in seen]
    run = planned.run
    sidecar = {
        "arm": run.arm.name,
        "seed": run.seed,
        "format": form,
        "sources": [plain(draw) for draw in run.draws],
        "rows": len(rows),
        "steps": run.steps,
        "tokens": run.tokens,
        "loss_tokens": run.loss_tokens,
        "training": plain(run.arm.training),
        "hold_equal": run.arm.hold_equal,
        "fingerprint": fingerprint(
            sorted([planned.examples[index].source, planned.examples[index].key] for index in seen)
        ),
        "recipe_id": run.recipe_id,
        "not_read": [plain(note) for note in not_read],
    }
    return Mix(rows=rows, sidecar=sidecar)


def _row(example: Example, form: Format) -> dict[str, Any]:
    named: dict[str, Any] = {"source": example.source, "id": example.row_id}
    if not example.prompt:
        return {"text": example.answer, **named}
    alteration = dict(example.tags).get("altered")
    if alteration is not None:  # a row whose answer is not its own never passes for one that is
        named["altered"] = alteration
    if form == "messages":
        return {"messages": [{"role": turn.role, "content": turn.text} for turn in example.turns], **named}
    prompt = _single_prompt(example, form)
    if form == "alpaca":
        return {"instruction": prompt, "input": "", "output": example.answer, **named}
    return {"prompt": prompt, "completion": example.answer, **named}


def _single_prompt(example: Example, form: str) -> str:
    turns: Sequence[Any] = example.prompt
    if len(turns) == 1 and turns[0].role == "user":
        return str(turns[0].text)
    raise DataError(
        f"a conversation of several turns cannot be written as {form}",
        where=str(example.origin or example.row_id),
        fix="use --format messages",
    )
