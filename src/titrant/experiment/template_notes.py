"""What a model's chat template makes of a study's rows, where it is not what their files say: for `plan` and `check`.

A template may have no system role, refuse the order of turns, or write something between its generation prompt and an
answer; a row's text may hold the model's control tokens, or the marks of another model's chat format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from titrant.backends.hf.models.prepare import prepare
from titrant.config.study import Study
from titrant.core.errors import DataError, ModelError, TemplateRefusal
from titrant.core.records import Example, Item, Turn
from titrant.data.contamination import ControlTokenUse, chat_marks, control_token_use
from titrant.tokens import Conflict, PromptEdit, Renderer, renderer_for

FindTokens = Callable[[str], Sequence[str]]

Rows = Mapping[str, Sequence[Example | Item]]
"""Training rows or test items by what they are called in messages."""


def control_token_notes(
    model: str, find: FindTokens, rows: Rows, *, control_tokens: Literal["text", "refuse"] = "text"
) -> tuple[str, ...]:
    """A line for each source with control tokens of the model, or marks of other chat formats, in its texts; `find`
    says which of the model's stand in a text.

    With `refuse`, `DataError` names the first row that holds one of the model's own.
    """

    def foreign_marks(text: str) -> list[str]:
        marks = chat_marks(text)
        own = set(find(text)) if marks else ()
        return [mark for mark in marks if mark not in own]

    notes = []
    for source, entries in rows.items():
        own = control_token_use(source, entries, find=find)
        if own is not None:
            if control_tokens == "refuse":
                raise DataError(
                    f"the row's text holds control tokens of {model}, as do {own.rows} of {own.of} rows of {source}",
                    where=own.place,
                    got=own.snippet,
                    expected="text without " + ", ".join(token for token, _ in own.tokens),
                    fix="take them out of the rows, or say control_tokens: text to have them encoded as ordinary text",
                )
            notes.append(
                f"{_held(own)} control tokens of {model} in their text ({_counts(own)}), which are encoded as ordinary "
                f"text; for example {own.place}: {own.snippet}"
            )
        foreign = control_token_use(source, entries, find=foreign_marks)
        if foreign is not None:
            notes.append(
                f"{_held(foreign)} marks of a chat format ({_counts(foreign)}), which are ordinary text to "
                f"{model}; for example {foreign.place}: {foreign.snippet}"
            )
    return tuple(notes)


def control_token_check(study: Study, rows: Rows) -> tuple[str, ...]:
    """`control_token_notes` for a check, which needs no model: a model that is not on this machine is not fetched, and
    then the marks of known chat formats are looked for and nothing else, which is said."""
    notes: dict[str, None] = {}
    for name, place in study.models.items():
        try:
            find = _local_renderer(study, str(place)).control_tokens_in
        except ModelError as error:
            notes[f"{name}: its own control tokens are not looked for, only marks of known chat formats: {error}"] = (
                None
            )
            find = _none_known
        notes.update(dict.fromkeys(control_token_notes(name, find, rows)))
    return tuple(notes)


def _local_renderer(study: Study, spec: str) -> Renderer:
    if not spec.startswith("package:") and not (study.folder / Path(spec).expanduser()).exists():
        raise ModelError("not on this machine; plan looks for them", where=spec)
    prepared_model = prepare(
        spec,
        base=study.folder,
        template=study.template,
        allow_pickle=study.allow_pickle,
        allow_remote_code=study.allow_remote_code,
    )
    return renderer_for(prepared_model)


def _none_known(text: str) -> tuple[str, ...]:
    return ()


def generation_prompt_notes(model: str, renderer: Renderer, rows: Rows) -> tuple[str, ...]:
    """How the model's generation prompt differs from what stands before an answer, once for each kind of conversation
    among the rows; kinds that differ alike are said once."""
    prompts: dict[tuple[str, ...], tuple[Turn, ...]] = {}
    for entries in rows.values():
        for row in entries:
            turns = row.prompt if isinstance(row, Example) else row.turns
            if turns:
                prompts.setdefault(tuple(turn.role for turn in turns), turns)
    notes: dict[PromptEdit, str] = {}
    for turns in prompts.values():
        shown = tuple(Turn(role=turn.role, text="…") for turn in turns)
        try:
            note = renderer.generation_prompt_note(shown)
        except TemplateRefusal:
            continue  # such rows are refused or dropped, and said with their places
        if note is not None:
            # One difference, though it is shown with what stands before it, which differs by conversation.
            notes.setdefault(renderer.generation_prompt_edit(shown), f"{model}: {note}")
    return tuple(notes.values())


def merged_system_note(model: str, renderer: Renderer, rows: Rows) -> tuple[str, ...]:
    """One line where system turns have been put before the first user's text."""
    if renderer.takes_system or not renderer.merge_system:
        return ()
    counts = {
        source: sum(row.turns[0].role == "system" for row in entries if len(row.turns) > 1)
        for source, entries in rows.items()
    }
    held = [f"{count} of {len(rows[source])} rows of {source}" for source, count in counts.items() if count]
    if not held:
        return ()
    return (
        f"{model}: its chat template has no system role; the system turns of {', '.join(held)} stand before the first "
        "user's text (refused_turns: drop leaves such rows out, template: plain needs no role)",
    )


def trimmed_text_note(model: str, renderer: Renderer, rows: Rows) -> tuple[str, ...]:
    """One line where the template takes white space away that stands around the texts of rows."""
    roles = renderer.trimmed_roles()
    if not roles:
        return ()
    counts = {
        source: sum(any(turn.role in roles and turn.text != turn.text.strip() for turn in row.turns) for row in entries)
        for source, entries in rows.items()
    }
    held = [f"{count} of {len(rows[source])} rows of {source}" for source, count in counts.items() if count]
    if not held:
        return ()
    shown = " and ".join(role for role in ("system", "user", "assistant") if role in roles)
    return (
        f"{model}: its chat template trims the texts of {shown} turns; {', '.join(held)} have white space around such "
        "a text, which is in no token (template: plain keeps it)",
    )


@dataclass(slots=True)
class TemplateFaults:
    """Rows of one source that a template refuses, and rows that begin otherwise in training than they are asked: how
    many of each, and the first."""

    refused: int = 0
    first_refusal: TemplateRefusal | None = None
    conflicts: int = 0
    first_conflict: Conflict | None = None

    def refuse(self, error: TemplateRefusal) -> None:
        """Count a row that is refused."""
        self.refused += 1
        self.first_refusal = self.first_refusal or error

    def conflict(self, found: Conflict) -> None:
        """Count a row whose two renderings differ."""
        self.conflicts += 1
        self.first_conflict = self.first_conflict or found

    def notes(self, model: str, source: str, of: int) -> tuple[str, ...]:
        """A line on the conflicts, with both texts of the first."""
        if self.first_conflict is None:
            return ()
        return (
            f"{source}: {self.conflicts} of {of} rows do not begin as {model} is asked: training has "
            f"{self.first_conflict.training!r}, answering starts from {self.first_conflict.answering!r}",
        )

    def error(self, source: str, of: int) -> TemplateRefusal:
        """The error for the refused rows: the first, with how many there are."""
        assert self.first_refusal is not None
        return TemplateRefusal(
            self.first_refusal.problem,
            where=self.first_refusal.where,
            got=f"{self.refused} of {of} rows of {source} are refused",
            fix="refused_turns: drop leaves such rows out and counts them; or template: plain, or another model",
        )

    def taken_out(self, source: str, *, of: int, drop: bool) -> str | None:
        """Why refused rows are left out, where there are any and they may be; the error where they may not."""
        if not self.refused:
            return None
        if not drop or self.refused == of:
            raise self.error(source, of)
        return f"refused, the first: {self.first_refusal}"


def _held(use: ControlTokenUse) -> str:
    return f"{use.source}: {use.rows} of {use.of} rows hold"


def _counts(use: ControlTokenUse, most: int = 5) -> str:
    shown = ", ".join(f"{token} in {rows}" for token, rows in use.tokens[:most])
    return shown + (f" and {len(use.tokens) - most} others" if len(use.tokens) > most else "")
