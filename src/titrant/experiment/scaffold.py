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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from titrant import tasks
from titrant.backends.hf.models.resolve import refuse_what_is_no_model
from titrant.config.fields import PACK_PREFIX, REMOTE_PREFIXES, resolve_place
from titrant.config.study import Study, model_name, study_of
from titrant.config.yaml_source import parse_document
from titrant.core.budget import Budget
from titrant.core.errors import DataError, SpecError
from titrant.core.records import Example
from titrant.data.readers import SHAPES, FileNote, FileShape, ReadingNotes, detect_shape, stream_examples
from titrant.data.readers.detect import MOST_LISTED_CHARACTERS, are_quantities
from titrant.experiment.design import Design, make_design
from titrant.experiment.pools.cuts import first_examples
from titrant.experiment.prepare import (
    own_rows_as_pools,
    prepare_study,
    raw_rows,
    scanned_pools,
    unread_files,
    without_documented,
)
from titrant.experiment.runner import backend_of
from titrant.experiment.scaffold_size import (
    Choice,
    Limit,
    Prices,
    Question,
    Size,
    choose,
    lacks,
    sizes,
)
from titrant.experiment.speed import Speed, speed_of
from titrant.experiment.staged_forecast import family_costs
from titrant.experiment.work import jobs_for
from titrant.scoring import metrics
from titrant.scoring.sheets import GRADED
from titrant.scoring.temperature import FEWEST_TO_FIT
from titrant.stats.looks import USUAL_MOST
from titrant.storage import atomic
from titrant.tasks.labels import contradiction_line

_TEST_ITEMS = (100, 1000)
_TEST_SHARES = (0.3, 0.4)  # more than usual where fewer items could not answer the question
_VALIDATION_ITEMS = 100
_SMALLEST_EFFECT = 0.05
_MANY_CHOICES = 20  # so many different numbers are quantities, to be written
_LONGEST_CHOICE_WORDS = 6
# A rough upper figure for English and most Latin scripts; the template's own marks come on top.
_BYTES_A_TOKEN = 2.5
_TEMPLATE_TOKENS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenStudy:
    """The study that was written, where, and what its owner should know. `smallest_arm_steps` are optimiser steps;
    `why` says for what reasons it has this size."""

    path: Path
    study: Study
    smallest_arm_steps: int
    warnings: tuple[str, ...]
    why: tuple[str, ...] = ()


def write_study(
    *,
    model: str,
    target: str,
    generalist: Sequence[str] | Mapping[str, str],
    out: str | Path = "study.yaml",
    test: str | None = None,
    name: str | None = None,
    force: bool = False,
    budget: Budget | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> WrittenStudy:
    """Write a study at `out`. Paths are taken from the current folder, and written relative to the study's own.

    `generalist` are files, named after themselves, or names and files. Without `test` a share of `target` is kept for
    testing. With a `budget` the study is one that is likely to be firm within it: then the model is read, as what runs
    take is counted in its tokens (and timed, where the budget is in minutes).

    Raises `SpecError` where `out` exists (and not `force`) and `DataError` where the rows cannot be used.
    """
    out = Path(out)
    if out.exists() and not force:
        raise SpecError("the file exists already", where=str(out), fix="--force to replace it, or --out elsewhere")
    title = name or _stem(target)
    pools = dict(generalist) if isinstance(generalist, Mapping) else _named(generalist, taken=title)
    if not pools:
        raise SpecError("no generalist rows", expected="at least one file", fix="--generalist general.jsonl")
    # Before the model stands in a study, whose folder is where its path would be looked for from then on.
    refuse_what_is_no_model(model)
    given = _Given(title=title, model=model, target=target, test=test, pools=pools, out=out)
    own = _survey(target)
    surveyed = {pool: _survey(path) for pool, path in pools.items()}
    test_items = None if test is None else detect_shape(_readable(test)).rows
    design = _design(own, surveyed, test_items=test_items)
    try:
        # Paths from a folder that is not there lead nowhere, so it has to be there when the study is read back.
        out.parent.mkdir(parents=True, exist_ok=True)
        text = given.text(own, surveyed, design)
        study = study_of(parse_document(text, name=str(out)), path=out)
        if budget is not None:
            design = _design(own, surveyed, test_items=test_items, limit=_limit(study, budget, say))
            text = given.text(own, surveyed, design)
            study = study_of(parse_document(text, name=str(out)), path=out)
        # What `plan` would refuse is refused here, before there is a file to blame for it.
        rows = raw_rows(study)
        drawn = {name: first_examples(study, scan) for name, scan in scanned_pools(study, rows).items()}
        atomic.write_text(out, text)
    except OSError as error:
        raise SpecError(f"the study cannot be written ({error.strerror or error})", where=str(out)) from error
    return WrittenStudy(
        path=out,
        study=study,
        smallest_arm_steps=design.size.steps,
        warnings=(*design.warnings, *unread_files(study), *own_rows_as_pools(rows.targets, drawn, study)),
        why=design.choice.why,
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
    contradiction: str | None

    @property
    def rows(self) -> int:
        """Rows that can be trained on, of those that were looked at."""
        return len(self.answers)


def _survey(path: str) -> _Survey:
    readable = _readable(path)
    shape = detect_shape(readable)
    if shape.question is not None:
        raise shape.question
    if shape.shape is None:
        raise DataError(
            "the columns are of no known shape",
            where=path,
            got="columns " + ", ".join(_with_counts(shape)),
            expected="instruction+output, messages, prompt+completion, text+label, question+answer, or text",
            fix="rename the columns, or write the study by hand with columns: {…}"
            + ("; fill or leave out the rows whose label is empty" if shape.empty else ""),
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
    placed = (replace(note, place=path) for note in notes.notes())
    choices = _closed_set(shape, answers)
    return _Survey(
        shape=shape,
        plain_text=shape.shape == "text",
        instruction=instruction,
        choices=choices,
        answers=answers,
        answer_tokens=max(_tokens(answer) for answer in answers),
        row_tokens=tuple(_TEMPLATE_TOKENS + sum(_tokens(turn.text) for turn in example.turns) for example in examples),
        contradiction=contradiction_line(examples) if choices else None,
        not_read=tuple(note for note in map(without_documented, placed) if note.line),
    )


def _with_counts(shape: FileShape) -> list[str]:
    """The columns, those that could hold labels with how many different values they have: why none was taken for it."""
    different, empty = dict(shape.different), dict(shape.empty)
    counts = {column: f"{different[column]:,} different values in {shape.rows:,} rows" for column in different} | {
        column: f"empty in {rows:,} of {shape.rows:,} rows" for column, rows in empty.items()
    }
    return [f"{column} ({counts[column]})" if column in counts else column for column in shape.columns]


def _closed_set(shape: FileShape, answers: Sequence[str]) -> tuple[str, ...]:
    """The answers, sorted, where each comes back, five times on average; labels as they are; else nothing."""
    if shape.labels:
        return tuple(sorted(label.label for label in shape.labels))
    counts = Counter(answers)
    if not 2 <= len(counts) <= len(answers) // 5 or min(counts.values()) == 1:
        return ()
    if are_quantities(counts):
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
    validation: float | None
    held_out: int
    train_rows: int
    question: Question
    limit: Limit | None
    choice: Choice
    max_tokens: int
    too_long: str
    warnings: Sequence[str]

    @property
    def size(self) -> Size:
        return self.choice.size


def _design(
    own: _Survey, pools: Mapping[str, _Survey], *, test_items: int | None, limit: Limit | None = None
) -> _Design:
    """The study's numbers: of a share of the rows for testing (`test_items` None) the smallest with which the study can
    answer its question."""
    if test_items is not None:
        return _told(own, _design_with(own, pools, share=None, items=test_items, limit=limit))
    usual, *larger = _test_shares(own.rows)
    first = _design_with(own, pools, share=usual, items=None, limit=limit)
    # Where even the largest share will not do, the usual one leaves the most rows to train on.
    if first.choice.chances.likely or not larger:
        return _told(own, first)
    most = _design_with(own, pools, share=larger[-1], items=None, limit=limit)
    if not most.choice.chances.likely:
        return _told(own, first)
    between = [_design_with(own, pools, share=share, items=None, limit=limit) for share in larger[:-1]]
    return _told(own, next((design for design in between if design.choice.chances.likely), most))


def _told(own: _Survey, design: _Design) -> _Design:
    """The design with what its owner should know: of the rows, and what it lacks."""
    told = _remarks(own, train_rows=own.rows - design.held_out, test_share=design.test_share)
    lacking = lacks(design.choice, design.question, design.limit)
    return replace(design, warnings=(*told, *design.warnings, *([lacking] if lacking else ())))


def _design_with(
    own: _Survey, pools: Mapping[str, _Survey], *, share: float | None, items: int | None, limit: Limit | None
) -> _Design:
    held_out = math.ceil(own.rows * (share or 0))
    train_rows = own.rows - held_out
    if train_rows < 4:
        raise DataError("too few rows for a study", got=f"{own.rows} rows", expected="at least 8, better hundreds")
    scoring = _scoring(own)
    validation = _validation_share(train_rows) if scoring.metric == GRADED else None
    train_rows -= round(train_rows * (validation or 0))
    max_tokens, too_long, dropped = _length_limit([own, *pools.values()])
    question = Question(items=items or held_out, metric=scoring.metric, smallest_effect=_SMALLEST_EFFECT)
    most = {name: _most_rows(pool, max_tokens) for name, pool in pools.items()}
    choice = choose(sizes(train_rows, most, parts=limit is not None), question, limit)
    warnings: list[str] = []
    for survey in (own, *pools.values()):
        warnings += (_not_read(note, survey) for note in survey.not_read)
    if dropped:
        warnings.append(f"{dropped} rows look longer than {max_tokens} tokens and would be dropped (too_long: drop)")
    return _Design(
        test_share=share,
        validation=validation,
        held_out=held_out,
        train_rows=train_rows,
        question=question,
        limit=limit,
        choice=choice,
        max_tokens=max_tokens,
        too_long=too_long,
        warnings=warnings,
    )


def _limit(study: Study, budget: Budget, say: Callable[[str], None]) -> Limit:
    """The budget with what runs of this study take, in the model's own tokens and on this machine."""
    backend = backend_of(study)
    design = make_design(prepare_study(study, backend=backend.identity, say=say))
    speed = speed_of(design, backend, say=say) if budget.unit == "minutes" else None
    if budget.unit == "minutes" and speed is None:
        fix = "a budget in tokens or runs; titrant run says why runs fail"
        raise SpecError("the speed of the model could not be measured", where="--budget", got=str(budget), fix=fix)
    return Limit(text=str(budget), unit=budget.unit, amount=budget.amount, prices=_prices(design, speed))


def _prices(design: Design, speed: Speed | None) -> Prices:
    """What a visit, a dosed row and the answers of a run take, from the study's own arms."""
    (model,), (target,) = design.prepared.models, design.prepared.study.targets
    family, seed = family_costs(design, model, target), design.prepared.study.arms.seeds[0]
    draws = [draw for arm in family.arms for draw in design.cell(arm, seed).run.draws if draw.visits]
    mean = {draw.source: draw.tokens / draw.visits for draw in draws}
    return Prices(
        visit_tokens=mean.pop(target),
        row_tokens=mean,
        answer_tokens=float(family.answers[0]),
        speed=speed,
        jobs=jobs_for(design.prepared, "auto", len(design.distinct)),
    )


def _validation_share(train_rows: int) -> float | None:
    """A tenth, but no more than a hundred rows: enough to fit a temperature, and every run answers them. None where a
    tenth is too few for that."""
    share = round(min(0.1, _VALIDATION_ITEMS / train_rows), 3)
    return share if train_rows * share >= FEWEST_TO_FIT + 5 else None


def _test_shares(rows: int) -> tuple[float, ...]:
    """The usual share for testing, and larger ones; never more than about 1,000 items."""
    usual = _test_share(rows)
    return (usual, *(share for share in _TEST_SHARES if usual < share and rows * share <= _TEST_ITEMS[1]))


def _test_share(rows: int) -> float:
    """A fifth, but at least about 100 items where two fifths give them, and about 1,000 at most."""
    fewest, most = _TEST_ITEMS
    share = min(max(0.2, fewest / rows), 0.4)
    return round(min(share, max(most / rows, 0.01)), 2)


def _most_rows(pool: _Survey, max_tokens: int) -> int:
    """The rows of a pool that doses may take: a tenth is left for what cleaning takes out."""
    fitting = sum(tokens <= max_tokens for tokens in pool.row_tokens)
    return max(1, int(min(pool.rows, fitting) * 0.9))


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
    return (
        f"{note.line}; what belongs to the prompt is taken in by columns: {{{asks}: [ONE, ANOTHER]}}, and what does "
        "not is left unsaid by columns: {metadata: [ONE, ANOTHER]}"
    )


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
    if written := _labels_to_write(own):
        remarks.append(written)
    if quantity := own.shape.quantity:
        remarks.append(
            f"the labels are {len(set(own.answers))} different numbers from {' to '.join(quantity)}: they are "
            f"read as numbers to be written, not as classes, and {_scoring(own).metric} counts the same number as "
            "right and a near one as wrong; for closeness name a metric of your own (metric: metrics.py:closeness)"
        )
    elif numbers := _numbers_as_classes(own):
        remarks.append(f"the {numbers} labels are numbers and are read as classes: a near one is as wrong as a far one")
    if alike := _look_alikes(own):
        remarks.append(tasks.look_alike_line(alike))
    if own.contradiction:
        remarks.append(own.contradiction)
    if passed_over := _scoring(own).passed_over:
        remarks.append(passed_over)
    if test_share is not None and own.rows - train_rows < _TEST_ITEMS[0]:
        remarks.append(f"about {own.rows - train_rows} test items: differences below 0.1 will hardly be seen")
    return remarks


def _labels_to_write(own: _Survey) -> str | None:
    """What is to be known of labels that repeat too little to be a closed set."""
    if own.shape.shape != "text_label" or own.choices or own.shape.quantity:
        return None
    counts = Counter(own.answers)
    once = sum(count == 1 for count in counts.values())
    return (
        f"{len(counts):,} different labels in {len(own.answers):,} rows, {once:,} of them once: they are taken for "
        "no closed set, and answers are written; answer: choices in the target takes them for one"
    )


def _numbers_as_classes(own: _Survey) -> int:
    """How many labels there are, where they are numbers that are more than a code for yes and no; else 0."""
    return len(own.choices) if len(own.choices) > 2 and all(map(metrics.is_one_number, own.choices)) else 0


def _look_alikes(own: _Survey) -> tuple[tasks.LookAlike, ...]:
    """Labels of the closed set that differ in case, spaces or Unicode form only, with their rows."""
    return tasks.look_alikes(own.answers) if own.choices else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scoring:
    """How answers are given and judged; `passed_over` says which metric would have been usual, and why it is not."""

    metric: str
    answer: str
    passed_over: str | None = None


def _scoring(own: _Survey) -> _Scoring:
    """A closed set is chosen from; the rest is written and judged by its length, by a metric that can judge it."""
    if own.choices or own.shape.has_choices:
        # Right and wrong stand beside it: accuracy, which takes choices as they stand.
        return _Scoring(metric=GRADED, answer="choices")
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
    if metrics.are_amounts(own.answers):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What the user named."""

    title: str
    model: str
    target: str
    test: str | None
    pools: Mapping[str, str]
    out: Path

    def text(self, own: _Survey, surveyed: Mapping[str, _Survey], design: _Design) -> str:
        """The whole study."""
        writer = _Writer(folder=self.out.resolve().parent)
        return "".join(
            (
                _head(self.title, self.model, writer, file_name=self.out.name),
                _target_section(own, target=self.target, test=self.test, design=design, writer=writer),
                _generalist_section(self.pools, surveyed, writer),
                _arms_section(design),
                _training_section(design),
                _TAIL,
            )
        )


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
    told = "held out of training: tells a gain from mere confidence; learning_rate or passes may be a list"
    if design.validation is not None:
        lines.append(f"  validation: {design.validation}  # {told}")
    else:
        lines.append("  # validation: 0.1  # needed where learning_rate or passes is a list to choose from")
    if own.instruction is not None:
        lines.append(
            f"  instruction: {_scalar(own.instruction)}  # what is asked of each row: say it in your own words"
        )
    columns = dict(own.shape.suggested_columns)
    if columns:
        mapped = ", ".join(f"{name}: {_mapped(column)}" for name, column in columns.items())
        lines.append(f"  columns: {{{mapped}}}  # our name: the file's")
    words = "the probability of the right choice; accuracy stands beside it" if scoring.metric == GRADED else _METRICS
    lines.append(f"  metric: {scoring.metric}  # {words}")
    lines.append(f"  answer: {scoring.answer}  # choices (the likeliest of a closed set) | text (written greedily)")
    if own.choices and own.shape.shape != "text_label":
        lines.append(f"  choices: {_flow([_quoted(choice) for choice in own.choices])}  # the closed set of answers")
    if alike := _look_alikes(own):
        lines.append(f"  # {tasks.merge_setting(alike)}  # labels that differ in case, spaces or Unicode form only")
    longest = max(8, math.ceil(own.answer_tokens / 8) * 8)
    lines.append(f"  max_answer_tokens: {min(longest, 512)}  # where a written answer is cut off")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A scalar that is safe between brackets."""
    scalar = _scalar(text)
    return scalar if scalar.startswith('"') or re.fullmatch(r"\w+", scalar) else f'"{scalar}"'


def _mapped(columns: str | Sequence[str]) -> str:
    """The file's column, or columns, as a value of `columns`."""
    return _quoted(columns) if isinstance(columns, str) else _flow([_quoted(column) for column in columns])


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
            mapped = ", ".join(f"{column}: {_mapped(there)}" for column, there in columns.items())
            lines.append(f"    columns: {{{mapped}}}  # our name: the file's")
        if survey.instruction is not None:
            lines.append(f"    instruction: {_scalar(survey.instruction)}  # what is asked of each row")
        lines.append("    # licence: CC-BY-4.0  # goes into the report and the model card")
    return "\n".join(lines) + "\n"


_METRICS = "exact_match | rouge_l | f1 | accuracy | last_number | graded"


def _arms_section(design: _Design) -> str:
    size = design.size
    doses = "\n".join(
        f"    {_scalar(name)}: {_flow(ladder)}  # rows; dose 0 is always there; {{tokens: 20000}} counts tokens"
        for name, ladder in size.doses.items()
    )
    why = "".join(f"  # {line}\n" for line in design.choice.why)
    rows = "all" if size.whole else size.target_rows
    of_all = f"of about {design.train_rows} training rows; [{_rounded(design.train_rows / 4)}, {rows}] adds a curve"
    fixed = (
        "" if size.whole else "  target_draw: fixed  # the same rows at every seed: the verdict is about these rows\n"
    )
    return f"""\
arms:  # each combination is trained, and the baselines beside them
{why}  target_rows: {_flow([rows])}  # {of_all}
{fixed}  doses:  # one ladder a source
{doses}
  seeds: {{most: {USUAL_MOST}}}  # 0, 1, 2 ... until the verdict is firm
hold_equal: target_passes  # what arms have in common: target_passes | steps | tokens
loss_weight: row  # each row weighs the same (row), or each token (token)
"""


def _rounded(rows: float) -> int:
    """Whole batches of eight."""
    return max(8, int(rows) - int(rows) % 8)


def _training_section(design: _Design) -> str:
    return f"""\
training:  # the same for every arm
  method: full  # full: all weights, 2e-5; lora: adapters, 2e-4
  passes: {design.size.passes}  # visits of each target row: {design.size.steps} steps without a dose
  generalist_passes: 1  # how often each dosed row is seen
  learning_rate: 2.0e-5  # the peak; a list is chosen from on validation rows
  batch_rows: {design.size.batch_rows}  # rows that share an optimiser step
  max_tokens: {design.max_tokens}  # the longest training row
  too_long: {design.too_long}  # what happens to longer rows: refuse | cut | drop
"""


_TAIL = f"""\
retention:  # what is asked beside the target, to see what was kept
  # learned: heldout.jsonl  # held-out rows of the pool's own kind, judged by their loss
  kept: pack:kept.jsonl  # 120 questions of general ability that ship with titrant
smallest_effect: {_SMALLEST_EFFECT}  # the smallest difference that matters to you, in the metric's units
until: firm  # judged after every few seeds, and over when the verdict is firm; grid: all seeds, then judged once
curves: never  # after: also generalist alone and other sizes, which no verdict reads
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
