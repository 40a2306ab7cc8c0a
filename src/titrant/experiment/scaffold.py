"""A commented study from a model, a file of target rows and pools of generalist rows: `titrant init`.

What is written runs as it stands. It is made from what the files hold (shape, labels, lengths, counts), read back by
the loader before it is put in place, and says in a comment beside each key what the key does.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from titrant import tasks
from titrant.backends.hf.models.resolve import refuse_what_is_no_model
from titrant.config.fields import PACK_PREFIX, REMOTE_PREFIXES, resolve_place
from titrant.config.study import Study, model_name, study_of
from titrant.config.yaml_source import parse_document
from titrant.core.errors import DataError, SpecError
from titrant.core.records import Example
from titrant.data.readers import SHAPES, FileNote, FileShape, ReadingNotes, detect_shape, stream_examples
from titrant.data.readers.detect import MOST_LISTED_CHARACTERS
from titrant.experiment.pools.cuts import first_examples
from titrant.experiment.prepare import own_rows_as_pools, raw_rows, scanned_pools, unread_files
from titrant.scoring import metrics
from titrant.storage import atomic

FEWEST_STEPS = 24
"""Fewer optimiser steps than this, and a fine-tune has hardly left its warm-up."""
_MOST_PASSES = 12
_TEST_ITEMS = (100, 1000)
_MANY_CHOICES = 20  # so many different numbers are quantities, to be written
_LONGEST_CHOICE_WORDS = 6
# A rough upper figure for English and most Latin scripts; the template's own marks come on top.
_BYTES_A_TOKEN = 2.5
_TEMPLATE_TOKENS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenStudy:
    """The study that was written, where, and what its owner should know. `smallest_arm_steps` are optimiser steps."""

    path: Path
    study: Study
    smallest_arm_steps: int
    warnings: tuple[str, ...]


def write_study(
    *,
    model: str,
    target: str,
    generalist: Sequence[str] | Mapping[str, str],
    out: str | Path = "study.yaml",
    test: str | None = None,
    name: str | None = None,
    force: bool = False,
) -> WrittenStudy:
    """Write a study at `out`. Paths are taken from the current folder, and written relative to the study's own.

    `generalist` are files, named after themselves, or names and files. Without `test` a share of `target` is kept for
    testing. Raises `SpecError` where `out` exists (and not `force`) and `DataError` where the rows cannot be used.
    """
    out = Path(out)
    if out.exists() and not force:
        raise SpecError("the file exists already", where=str(out), fix="--force to replace it, or --out elsewhere")
    title = name or _stem(target)
    pools = dict(generalist) if isinstance(generalist, Mapping) else _named(generalist, taken=title)
    if not pools:
        raise SpecError("no generalist rows", expected="at least one file", fix="--generalist general.jsonl")
    own = _survey(target)
    surveyed = {pool: _survey(path) for pool, path in pools.items()}
    design = _design(own, surveyed, split=test is None)
    writer = _Writer(folder=out.resolve().parent)
    text = "".join(
        (
            _head(title, model, writer, file_name=out.name),
            _target_section(own, target=target, test=test, design=design, writer=writer),
            _generalist_section(pools, surveyed, writer),
            _arms_section(design),
            _training_section(design),
            _TAIL,
        )
    )
    try:
        # Paths from a folder that is not there lead nowhere, so it has to be there when the study is read back.
        out.parent.mkdir(parents=True, exist_ok=True)
        study = study_of(parse_document(text, name=str(out)), path=out)
        # What `plan` would refuse is refused here, before there is a file to blame for it.
        for place in study.models.values():
            refuse_what_is_no_model(str(place), base=study.folder)
        rows = raw_rows(study)
        drawn = {name: first_examples(study, scan) for name, scan in scanned_pools(study, rows).items()}
        atomic.write_text(out, text)
    except OSError as error:
        raise SpecError(f"the study cannot be written ({error.strerror or error})", where=str(out)) from error
    return WrittenStudy(
        path=out,
        study=study,
        smallest_arm_steps=design.smallest_arm_steps,
        warnings=(*design.warnings, *unread_files(study), *own_rows_as_pools(rows.targets, drawn, study)),
    )


# -------------------------------------------------------------------------------------------------------- what is there


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What a file holds: its shape, and of each of its rows the answer's and the whole row's likely tokens."""

    shape: FileShape
    plain_text: bool
    instruction: str | None
    choices: tuple[str, ...]
    answers: tuple[str, ...]
    answer_tokens: int
    row_tokens: tuple[int, ...]
    not_read: tuple[FileNote, ...]

    @property
    def rows(self) -> int:
        """Rows that can be trained on, of those that were looked at."""
        return len(self.answers)


def _survey(path: str) -> _Survey:
    readable = _readable(path)
    shape = detect_shape(readable)
    if shape.shape is None:
        raise DataError(
            "the columns are of no known shape",
            where=path,
            got="columns " + ", ".join(_with_counts(shape)),
            expected="instruction+output, messages, prompt+completion, text+label, question+answer, or text",
            fix="rename the columns, or write the study by hand with columns: {…}",
        )
    needs_instruction = SHAPES[shape.shape].instruction == "needed"
    instruction = (shape.suggested_instruction or "Answer the following.") if needs_instruction else None
    examples: list[Example] = []
    notes = ReadingNotes()
    rows = stream_examples(
        readable,
        source="surveyed",
        task="surveyed",
        columns=dict(shape.suggested_columns) or None,
        instruction=instruction,
        notes=notes,
    )
    for example in rows:
        if len(examples) < shape.rows:
            examples.append(example)
    if not examples:
        raise DataError("no row of the file holds an answer to learn", where=path, got=f"{shape.rows:,} rows")
    answers = tuple(example.answer for example in examples)
    return _Survey(
        shape=shape,
        plain_text=shape.shape == "text",
        instruction=instruction,
        choices=_closed_set(shape, answers),
        answers=answers,
        answer_tokens=max(_tokens(answer) for answer in answers),
        row_tokens=tuple(_TEMPLATE_TOKENS + sum(_tokens(turn.text) for turn in example.turns) for example in examples),
        not_read=tuple(replace(note, place=path) for note in notes.notes()),
    )


def _with_counts(shape: FileShape) -> list[str]:
    """The columns, those that could hold labels with how many different values they have: why none was taken for it."""
    different = dict(shape.different)
    return [
        f"{column} ({different[column]:,} different values in {shape.rows:,} rows)" if column in different else column
        for column in shape.columns
    ]


def _closed_set(shape: FileShape, answers: Sequence[str]) -> tuple[str, ...]:
    """The answers, sorted, where each comes back, five times on average; labels as they are; else nothing."""
    if shape.labels:
        return tuple(sorted(label.label for label in shape.labels))
    counts = Counter(answers)
    if not 2 <= len(counts) <= len(answers) // 5 or min(counts.values()) == 1:
        return ()
    if len(counts) > _MANY_CHOICES and (
        all(metrics.is_one_number(answer) for answer in counts)
        or any(len(answer.split()) > _LONGEST_CHOICE_WORDS for answer in counts)
    ):
        return ()
    return tuple(sorted(counts))


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / _BYTES_A_TOKEN)


def _readable(path: str) -> str:
    if path.startswith(PACK_PREFIX):
        return str(resolve_place(path, Path.cwd()))
    return path


# ------------------------------------------------------------------------------------------------------------ decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Design:
    """The numbers of the study, and what to say about them."""

    test_share: float | None
    train_rows: int
    target_rows: tuple[int | str, ...]
    doses: Mapping[str, tuple[int, ...]]
    passes: int
    batch_rows: int
    max_tokens: int
    too_long: str
    baseline_steps: int
    smallest_arm_steps: int
    warnings: Sequence[str]


def _design(own: _Survey, pools: Mapping[str, _Survey], *, split: bool) -> _Design:
    test_share = _test_share(own.rows) if split else None
    train_rows = own.rows - math.ceil(own.rows * (test_share or 0))
    if train_rows < 4:
        raise DataError("too few rows for a study", got=f"{own.rows} rows", expected="at least 8, better hundreds")
    quarter = _rounded(train_rows / 4)
    max_tokens, too_long, dropped = _length_limit([own, *pools.values()])
    warnings = _remarks(own, train_rows=train_rows, test_share=test_share)
    for survey in (own, *pools.values()):
        warnings += (_not_read(note, survey) for note in survey.not_read)
    if dropped:
        warnings.append(f"{dropped} rows look longer than {max_tokens} tokens and would be dropped (too_long: drop)")
    doses = {name: _doses(train_rows, pool.rows, max_tokens, pool) for name, pool in pools.items()}
    passes, batch_rows = _passes(quarter)
    steps = math.ceil(quarter * passes / batch_rows)
    alone_steps = math.ceil(min(ladder[-1] for ladder in doses.values()) / batch_rows)
    smallest = min(steps, alone_steps)
    if smallest < FEWEST_STEPS:
        which = "generalist alone" if alone_steps < steps else f"{quarter} target rows without a dose"
        warnings.append(
            f"the smallest arm ({which}) takes {smallest} optimiser steps; fewer than {FEWEST_STEPS} is short"
        )
    return _Design(
        test_share=test_share,
        train_rows=train_rows,
        target_rows=(quarter, "all"),
        doses=doses,
        passes=passes,
        batch_rows=batch_rows,
        max_tokens=max_tokens,
        too_long=too_long,
        baseline_steps=steps,
        smallest_arm_steps=smallest,
        warnings=warnings,
    )


def _test_share(rows: int) -> float:
    """A fifth, but at least about 100 items where two fifths give them, and about 1,000 at most."""
    fewest, most = _TEST_ITEMS
    share = min(max(0.2, fewest / rows), 0.4)
    return round(min(share, max(most / rows, 0.01)), 2)


def _rounded(rows: float) -> int:
    """Whole batches of eight where that changes little."""
    whole = int(rows)
    return max(1, whole - whole % 8 if whole >= 32 else whole)


def _doses(train_rows: int, pool_rows: int, max_tokens: int, pool: _Survey) -> tuple[int, ...]:
    """Half and twice the target's training rows. A tenth of the pool is left for what cleaning takes out."""
    fitting = sum(tokens <= max_tokens for tokens in pool.row_tokens)
    most = max(1, int(min(pool_rows, fitting) * 0.9))
    wanted = [_rounded(train_rows / 2), _rounded(train_rows * 2)]
    if wanted[-1] > most:
        wanted = [min(wanted[0], _rounded(most / 4)), _rounded(most)]
    return tuple(sorted(set(wanted)))


def _passes(smallest_rows: int) -> tuple[int, int]:
    """Passes and rows a batch that give the smallest arm its steps, with as few visits of a row as can be."""
    for batch_rows in (8, 4, 2):
        passes = max(4, math.ceil(((FEWEST_STEPS - 1) * batch_rows + 1) / smallest_rows))
        if passes <= _MOST_PASSES:
            return passes, batch_rows
    return _MOST_PASSES, 2


def _length_limit(surveys: Sequence[_Survey]) -> tuple[int, str, int]:
    """The longest row allowed, what happens to longer ones, and how many they look to be."""
    tokens = [count for survey in surveys for count in survey.row_tokens]
    for limit in (512, 1024):
        over = sum(count > limit for count in tokens)
        if over == 0:
            return limit, "refuse", 0
        if over <= len(tokens) * 0.01:
            return limit, "drop", over
    return 2048, "drop", sum(count > 2048 for count in tokens)


def _not_read(note: FileNote, survey: _Survey) -> str:
    """What of a file the study leaves out, and how to take a column in."""
    asks = SHAPES[survey.shape.shape or "text"].needs[0].role
    if not note.not_read or asks == "messages":
        return note.line
    return f"{note.line}; what belongs to the prompt is taken in by columns: {{{asks}: [ONE, ANOTHER]}}"


def _remarks(own: _Survey, *, train_rows: int, test_share: float | None) -> list[str]:
    remarks = []
    if not own.shape.complete:
        remarks.append(f"only the first {own.rows} rows were looked at; sizes and doses follow from these")
    rare = [label.label for label in own.shape.labels if label.rows < 5]
    if rare:
        remarks.append(
            f"few rows with the label {', '.join(rare[:5])}: a test item may have a label unseen in training"
        )
    if own.shape.labels and not own.shape.labels_listed:
        listed = len(", ".join(label.label for label in own.shape.labels))
        remarks.append(
            f"{len(own.shape.labels)} labels take {listed:,} characters, and {MOST_LISTED_CHARACTERS:,} fit: the "
            "instruction does not name them; answers are chosen among all of them, by likelihood"
        )
    if alike := _look_alikes(own):
        remarks.append(tasks.look_alike_line(alike))
    if passed_over := _scoring(own).passed_over:
        remarks.append(passed_over)
    if test_share is not None and own.rows - train_rows < _TEST_ITEMS[0]:
        remarks.append(f"about {own.rows - train_rows} test items: differences below 0.1 will hardly be seen")
    return remarks


def _look_alikes(own: _Survey) -> tuple[tasks.LookAlike, ...]:
    """Labels of the closed set that differ in case or outer space only, with their rows."""
    return tasks.look_alikes(own.answers) if own.choices else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scoring:
    """How answers are given and judged; `passed_over` says which metric would have been usual, and why it is not."""

    metric: str
    answer: str
    passed_over: str | None = None


def _scoring(own: _Survey) -> _Scoring:
    """A closed set is chosen from; the rest is written and judged by its length, by a metric that can judge it."""
    if own.choices:
        # Choices are compared as they stand; the metric is what written answers would be judged by.
        told_apart = metrics.try_metric("exact_match", [[choice] for choice in own.choices]).failed_share == 0
        return _Scoring(metric="exact_match" if told_apart else "accuracy", answer="choices")
    if own.shape.has_choices:
        return _Scoring(metric="accuracy", answer="choices")
    usual, right = _usual_metric(own), [[answer] for answer in own.answers]
    trial = metrics.try_metric(usual, right)
    if trial.passed:
        return _Scoring(metric=usual, answer="text")
    metric = next(metric for metric in _NEXT_METRICS[usual] if metrics.try_metric(metric, right).passed)
    failed = len(trial.unread) + len(trial.merged)
    why = trial.unread[0].reason if trial.unread else ""
    if trial.merged:
        why = f"{trial.merged[0].reference!r} and {trial.merged[0].other!r} are one to it"
    passed_over = f"{usual} cannot judge {failed} of {trial.items} answers ({why}), so the metric is {metric}"
    return _Scoring(metric=metric, answer="text", passed_over=passed_over)


_NEXT_METRICS = {
    "last_number": ("exact_match", "accuracy"),
    "exact_match": ("accuracy",),
    "f1": ("accuracy",),
    "rouge_l": ("f1", "accuracy"),
}
"""What is taken where a metric cannot judge the answers; accuracy, byte for byte, reads every text."""


def _usual_metric(own: _Survey) -> str:
    """The metric for written answers of this kind and length."""
    words = sorted(len(answer.split()) for answer in own.answers)
    if sum(map(metrics.states_one_number, own.answers)) >= 0.95 * len(own.answers):
        return "last_number"
    if words[int(len(words) * 0.9)] <= 3:
        return "exact_match"
    return "f1" if words[len(words) // 2] <= 8 else "rouge_l"


# -------------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    """Scalars as YAML, and paths relative to the study."""

    folder: Path

    def path(self, path: str) -> str:
        if path.startswith((*REMOTE_PREFIXES, PACK_PREFIX)):
            return _scalar(path)
        absolute = str(Path(path).expanduser().resolve())
        relative = os.path.relpath(absolute, self.folder)
        # A path that climbs far says nothing to a reader and breaks as easily as a full one.
        return _scalar(absolute if relative.startswith("../../../") else relative)

    def model(self, spec: str) -> str:
        """A model that is there as a file or folder is written as a path; every other spec as it is."""
        if spec.startswith("package:") or not Path(spec).expanduser().exists():
            return _scalar(spec)
        written = self.path(spec)
        return written if written.startswith((".", "/", '"')) else f"./{written}"


def _scalar(text: str) -> str:
    """Text as a YAML scalar: bare where that is safe, else in double quotes. `${` stays what it is."""
    escaped = text.replace("${", "$${")
    if re.fullmatch(r"[A-Za-z./][\w./+-]*(:[\w./+-]+)*", escaped, re.ASCII) and escaped.lower() != "null":
        return escaped
    return (
        json.dumps(escaped, ensure_ascii=False)
        .replace("\x7f", "\\x7f")
        .replace("\u2028", "\\L")
        .replace("\u2029", "\\P")
        .replace("\x85", "\\N")
    )


def _flow(values: Sequence[object]) -> str:
    return "[" + ", ".join(str(value) for value in values) + "]"


def _head(title: str, model: str, writer: _Writer, *, file_name: str) -> str:
    shown = file_name if file_name.isprintable() else "study.yaml"
    return f"""\
# How much generalist data does this task want? Written by titrant init; change what you like, then
# `titrant plan {shown}` says what it costs, and `titrant run {shown}` does it.
name: {_scalar(title)}  # results go to titrations/<name>
model: {writer.model(model)}  # package:…, a hub id, a local folder or a .gguf file
"""


def _target_section(own: _Survey, *, target: str, test: str | None, design: _Design, writer: _Writer) -> str:
    scoring = _scoring(own)
    lines = ["target:  # your task"]
    if test is None:
        lines.append(f"  rows: {writer.path(target)}  # {own.rows} rows of the shape {own.shape.shape}")
        lines.append(f"  test_share: {design.test_share}  # kept for testing, by content, the same share of each label")
    else:
        lines.append(f"  train: {writer.path(target)}  # {own.rows} rows of the shape {own.shape.shape}")
        lines.append(f"  test: {writer.path(test)}  # what the verdict is judged on")
    lines.append("  # validation: 0.1  # needed where learning_rate or passes is a list to choose from")
    if own.instruction is not None:
        lines.append(
            f"  instruction: {_scalar(own.instruction)}  # what is asked of each row: say it in your own words"
        )
    columns = dict(own.shape.suggested_columns)
    if columns:
        mapped = ", ".join(f"{name}: {_quoted(column)}" for name, column in columns.items())
        lines.append(f"  columns: {{{mapped}}}  # our name: the file's")
    lines.append(f"  metric: {scoring.metric}  # exact_match | rouge_l | f1 | accuracy | last_number | graded")
    lines.append(f"  answer: {scoring.answer}  # choices (the likeliest of a closed set) | text (written greedily)")
    if own.choices and own.shape.shape != "text_label":
        lines.append(f"  choices: {_flow([_quoted(choice) for choice in own.choices])}  # the closed set of answers")
    if alike := _look_alikes(own):
        lines.append(f"  # {tasks.merge_setting(alike)}  # labels that differ in case or outer space only")
    longest = max(8, math.ceil(own.answer_tokens / 8) * 8)
    lines.append(f"  max_answer_tokens: {min(longest, 512)}  # where a written answer is cut off")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A scalar that is safe between brackets."""
    scalar = _scalar(text)
    return scalar if scalar.startswith('"') or re.fullmatch(r"\w+", scalar) else f'"{scalar}"'


def _generalist_section(pools: Mapping[str, str], surveyed: Mapping[str, _Survey], writer: _Writer) -> str:
    lines = ["generalist:  # the pools that doses are drawn from, by name"]
    for name, path in pools.items():
        survey = surveyed[name]
        lines.append(f"  {_scalar(name)}:")
        kind = "text" if survey.plain_text else "rows"
        said = "plain text: loss on every token" if survey.plain_text else f"of the shape {survey.shape.shape}"
        lines.append(f"    {kind}: {writer.path(path)}  # {survey.rows} rows, {said}")
        columns = dict(survey.shape.suggested_columns)
        if columns:
            mapped = ", ".join(f"{column}: {_quoted(there)}" for column, there in columns.items())
            lines.append(f"    columns: {{{mapped}}}  # our name: the file's")
        if survey.instruction is not None:
            lines.append(f"    instruction: {_scalar(survey.instruction)}  # what is asked of each row")
        lines.append("    # licence: CC-BY-4.0  # goes into the report and the model card")
    return "\n".join(lines) + "\n"


def _arms_section(design: _Design) -> str:
    doses = "\n".join(
        f"    {_scalar(name)}: {_flow(ladder)}  # rows; dose 0 is always there; {{tokens: 20000}} counts tokens"
        for name, ladder in design.doses.items()
    )
    return f"""\
arms:  # each combination is trained, and the baselines beside them
  target_rows: {_flow(design.target_rows)}  # a quarter and all of about {design.train_rows} training rows
  doses:  # one ladder a source: about half and twice the training rows
{doses}
  seeds: 3  # 0, 1 and 2; a list means exactly those
hold_equal: target_passes  # what arms have in common: target_passes | steps | tokens
loss_weight: row  # each row weighs the same (row), or each token (token)
"""


def _training_section(design: _Design) -> str:
    return f"""\
training:  # the same for every arm
  method: full  # full: all weights, 2e-5; lora: adapters, 2e-4
  passes: {design.passes}  # visits of each target row: {design.baseline_steps} steps at the smallest size
  generalist_passes: 1  # how often each dosed row is seen
  learning_rate: 2.0e-5  # the peak; a list is chosen from on validation rows
  batch_rows: {design.batch_rows}  # rows that share an optimiser step
  max_tokens: {design.max_tokens}  # the longest training row
  too_long: {design.too_long}  # what happens to longer rows: refuse | cut | drop
"""


_TAIL = """\
retention:  # what is asked beside the target, to see what was kept
  # learned: heldout.jsonl  # held-out rows of the pool's own kind, judged by their loss
  kept: pack:kept.jsonl  # 120 questions of general ability that ship with titrant
smallest_effect: 0.05  # the smallest difference that matters to you, in the metric's units
verdict_at: largest  # the target size that the verdict is about
keep_weights: recommended  # recommended | all | none
"""


def _named(paths: Sequence[str], *, taken: str) -> dict[str, str]:
    """Names for pools after their files; a number follows where a name is taken."""
    named: dict[str, str] = {}
    for path in paths:
        stem = _stem(path)
        name, number = stem, 2
        while name in named or name == taken:
            name, number = f"{stem}-{number}", number + 1
        named[name] = path
    return named


def _stem(path: str) -> str:
    """A name after a file: without folders, endings and `.train`."""
    last = path.rpartition(":")[2].rstrip("/").rpartition("/")[2]
    for ending in (".gz", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".zip", ".tar", ".tgz", ".train"):
        last = last.removesuffix(ending)
    return model_name(last) if last else "study"
