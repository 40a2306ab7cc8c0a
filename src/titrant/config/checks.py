"""What only several keys of a study together can get wrong.

These look at the values as they stand in the file, not at validated objects, so that a study with one wrong type still
hears of everything else. A value of the wrong kind is somebody else's problem and is passed over here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from titrant.config.fields import described
from titrant.config.yaml_source import KeyPath, Plain, Problem

_COLLECTION_COLUMNS = ("dataset", "kind")
_PARTNER = {"train": "test", "test": "train", "rows": "test_share", "test_share": "rows"}
_CHOICE_METRICS = ("exact_match", "accuracy", "graded", "by_task")
_OF_FILES = ("train", "test", "rows", "test_share", "columns", "instruction", "choices", "merge_labels", "facts")
_OF_SUPERNI = ("train_tasks", "test_tasks", "positive_examples", "source_tokens")
_OF_LADDERS = ("rung", "test_share", "rows_per_task")


def cross_checks(study: Mapping[str, Any]) -> list[Problem]:
    """Every problem that lies between keys, in no particular order."""
    return [problem for check in _CHECKS for problem in check(study)]


def _one_or_several(study: Mapping[str, Any]) -> Iterator[Problem]:
    for one, several in (("model", "models"), ("target", "targets")):
        if not _given(study, one) and not _given(study, several):
            yield Problem(path=(one,), problem="a key is missing", expected=f"{one}, or {several} for several")
        elif _given(study, one) and _given(study, several):
            yield Problem(path=(several,), problem=f"both {one} and {several} are given", expected="one of the two")


def _target_rows_of_files(study: Mapping[str, Any]) -> Iterator[Problem]:
    """Either train and test, or rows and test_share, or a collection."""
    for path, target in _targets(study):
        if _given(target, "facts"):
            for key in (
                "train",
                "test",
                "rows",
                "test_share",
                "validation",
                "choices",
                "merge_labels",
                "columns",
                "instruction",
            ):
                if _given(target, key):
                    problem = f"facts bring their own rows and prompts, so {key} has no place beside them"
                    yield Problem(path=(*path, key), problem=problem, fix=f"leave {key} or facts out")
            continue
        if _word(target, "metric") == "subject_gain":
            problem = "only facts are also asked without their subject"
            yield Problem(path=(*path, "metric"), problem=problem, expected="facts: {rows: FILE} in the target")
        if _given(target, "collection"):
            continue
        split = [key for key in ("train", "test") if _given(target, key)]
        single = [key for key in ("rows", "test_share") if _given(target, key)]
        pairs = "train and test, or rows and test_share, or collection"
        if split and single:
            problem = f"both {' and '.join(split)} and {' and '.join(single)} are given"
            yield Problem(path=(*path, single[0]), problem=problem, expected=pairs)
        elif not split and not single:
            yield Problem(path=path, problem="the target has no rows", expected=pairs)
        elif len(split) + len(single) == 1:
            missing = {"train": "test", "test": "train", "rows": "test_share", "test_share": "rows"}[
                (split or single)[0]
            ]
            problem = f"{(split or single)[0]} is given without {missing}"
            yield Problem(path=(*path, (split or single)[0]), problem=problem, expected=pairs)


def _collections(study: Mapping[str, Any]) -> Iterator[Problem]:
    """What a collection brings along has no place beside it, and it is of one kind."""
    for path, target in _targets(study):
        said = target.get("collection")
        if not isinstance(said, dict):
            for key in ("metric", "answer"):
                if _word(target, key) == "by_task":
                    problem = "by_task needs a collection of tasks, and this target is a file of rows"
                    yield Problem(path=(*path, key), problem=problem, fix=f"name a {key}, or give a collection")
            continue
        own = _given(said, "own")
        if own and "task" not in _mapping(target, "columns"):
            problem = "a collection of your own needs a column that says which task a row is of"
            yield Problem(path=(*path, "columns"), problem=problem, expected="columns: {task: NAME, …}")
        for key in _OF_FILES:
            if _given(target, key) and not (own and key in ("columns", "instruction")):
                problem = f"a collection brings its own rows and prompts, so {key} has no place beside it"
                yield Problem(path=(*path, key), problem=problem, fix=f"leave {key} or collection out")
        if _given(target, "validation") and not _is_share(target["validation"]):
            problem, fix = "validation rows of a collection are a share of its training rows", "validation: 0.1"
            yield Problem(path=(*path, "validation"), problem=problem, got=described(target["validation"]), fix=fix)
        yield from _one_collection((*path, "collection"), said)


def _one_collection(path: KeyPath, said: Mapping[str, Any]) -> Iterator[Problem]:
    kinds = [key for key in ("p3", "superni", "skill", "own") if _given(said, key)]
    if len(kinds) != 1:
        problem = f"both {' and '.join(kinds)} are given" if kinds else "the collection has no rows"
        yield Problem(
            path=path, problem=problem, expected="p3: FILE, or superni: FOLDER, or skill: NAME and rows: FILE"
        )
        return
    kind = kinds[0]
    if (kind == "skill") != _given(said, "rows"):
        problem = "a skill set needs the file of its rows" if kind == "skill" else f"rows has no place beside {kind}"
        yield Problem(path=(*path, "rows"), problem=problem, expected="skill: NAME and rows: FILE")
    barred = {"skill": (*_OF_LADDERS, *_OF_SUPERNI), "p3": _OF_SUPERNI, "own": _OF_SUPERNI, "superni": ()}[kind]
    for key in barred:
        if _given(said, key):
            yield Problem(path=(*path, key), problem=f"{key} says nothing about {kind}", fix="leave it out")
    listed = [key for key in ("train_tasks", "test_tasks") if _given(said, key)]
    if len(listed) == 1:
        yield Problem(path=(*path, listed[0]), problem="the two split lists go together", expected=" and ".join(_LISTS))
    if listed and _given(said, "test_share"):
        problem = "the split lists say what is tested, so there is nothing to share out"
        yield Problem(path=(*path, "test_share"), problem=problem, fix="leave test_share out, or the lists")
    rung = said.get("rung")
    if isinstance(rung, dict) and _given(rung, "draw") and not _given(rung, "random"):
        problem = "a draw is of a random set, and random is not given"
        yield Problem(path=(*path, "rung", "draw"), problem=problem, expected="random: 16")
    if isinstance(rung, str) and str(rung) not in _RUNGS:
        yield _unknown((*path, "rung"), "no such rung", str(rung), list(_RUNGS))
    if isinstance(rung, dict) and isinstance(rung.get("named"), str) and str(rung["named"]) not in _RUNGS:
        yield _unknown((*path, "rung", "named"), "no such rung", str(rung["named"]), list(_RUNGS))


_KINDS = "p3: FILE, or superni: FOLDER, or skill: NAME and rows: FILE, or own: FILE"
_LISTS = ("train_tasks", "test_tasks")
_RUNGS = ("all", "classification", "sentiment", "yelp")


def _answers(study: Mapping[str, Any]) -> Iterator[Problem]:
    for path, target in _targets(study):
        metric, answer = _word(target, "metric"), _word(target, "answer")
        if answer == "choices" and metric in ("rouge_l", "f1", "last_number"):
            yield Problem(
                path=(*path, "metric"),
                problem="an answer chosen from a closed set is right or wrong",
                got=metric,
                expected=" | ".join(_CHOICE_METRICS) + " with answer: choices",
                fix="answer: text for this metric",
            )
        if answer == "loss" and metric != "graded":
            yield Problem(
                path=(*path, "answer"),
                problem="an answer that is not written can only be graded by its probability",
                got=metric or described(target.get("metric", "exact_match")),
                expected="metric: graded with answer: loss",
            )
        if answer == "text" and _given(target, "choices"):
            problem = "choices are given, but answers are written"
            yield Problem(path=(*path, "choices"), problem=problem, fix="answer: choices, or leave choices out")


def _columns(study: Mapping[str, Any]) -> Iterator[Problem]:
    from titrant.data.readers import SHAPES

    known = sorted({name for shape in SHAPES.values() for name in shape.names})
    for path, owner in (*_targets(study), *_sources(study)):
        columns = owner.get("columns")
        also = _COLLECTION_COLUMNS if _given(owner, "collection") else ()
        for name in columns if isinstance(columns, dict) else ():
            if name not in known and name not in also:
                yield _unknown((*path, "columns", name), "no such column of a shape", name, known)


def _formats(study: Mapping[str, Any]) -> Iterator[Problem]:
    """A format reads rows by itself."""
    for path, owner in (*_targets(study), *_sources(study)):
        for key in ("columns", "text", "facts", "collection"):
            if _given(owner, "format") and _given(owner, key):
                problem = f"a format reads the rows of a file by itself, so {key} has no place beside it"
                yield Problem(path=(*path, key), problem=problem, fix=f"leave {key} or format out")


def _one_metric_a_name(study: Mapping[str, Any]) -> Iterator[Problem]:
    """Two objects of one name would be one metric in every table of results."""
    seen: dict[str, Any] = {}
    for path, target in _targets(study):
        metric = target.get("metric")
        if metric is None or isinstance(metric, str | dict | list):
            continue
        name = str(getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__))
        if seen.setdefault(name, metric) is not metric:
            yield Problem(path=(*path, "metric"), problem="another metric has this name", got=name, fix="rename one")


def _pools(study: Mapping[str, Any]) -> Iterator[Problem]:
    from titrant.data.readers import catalogue_names

    for path, source in _sources(study):
        text, listed = _given(source, "text"), _given(source, "source")
        kinds = [key for key in ("rows", "text", "facts") if _given(source, key)]
        if len(kinds) > 1 or not (kinds or listed):
            problem = f"both {' and '.join(kinds)} are given" if kinds else "the source has no rows"
            expected = "rows: FILE, text: FILE for plain text, facts: {rows: FILE}, or source: NAME of the catalogue"
            yield Problem(path=path, problem=problem, expected=expected)
        if listed and text:
            problem = "a source of the catalogue holds instruction rows, not plain text"
            yield Problem(path=(*path, "text"), problem=problem, fix="rows: FILE for a local copy of it")
        if listed and _given(source, "facts"):
            problem = "a source of the catalogue holds instruction rows, not facts"
            yield Problem(path=(*path, "facts"), problem=problem, fix="leave source or facts out")
        if listed and _word(source, "source") not in (None, *catalogue_names()):
            problem = "no such source in the catalogue"
            yield _unknown((*path, "source"), problem, str(source["source"]), list(catalogue_names()))
        if _given(source, "part") and (_given(source, "rows") or not listed):
            problem = "only a catalogue source that is read from the hub has parts"
            yield Problem(path=(*path, "part"), problem=problem, fix="leave part out")
        known = _word(source, "select") in ("known", "unknown")
        if known != _given(source, "labels"):
            problem = "what the model knows is said by labels" if known else "labels are given, but not used"
            fix = "labels: FILE, written by titrant probe" if known else "select: known, or leave labels out"
            yield Problem(path=(*path, "select" if known else "labels"), problem=problem, fix=fix)
        if known and not _given(source, "facts"):
            problem = "only facts have been asked what the model knows of them"
            yield Problem(path=(*path, "select"), problem=problem, expected="facts: {rows: FILE}", fix="select: random")
        if text and _given(source, "instruction"):
            problem = "plain text is not asked anything, so an instruction has no place"
            yield Problem(path=(*path, "instruction"), problem=problem, fix="leave instruction out, or use rows")
        yield from _equal_terms(path, source, _mapping(study, "generalist"))
        if not _given(source, "facts"):
            yield from _false_doses(study, str(path[-1]))


def _equal_terms(path: tuple[str | int, ...], source: Mapping[str, Any], named: Mapping[str, Any]) -> Iterator[Problem]:
    """What a source shares with another one: prompts, or lengths of answers."""
    for field in ("lengths_as", "prompts_as"):
        other = _word(source, field)
        if _given(source, field) and other is not None and (other not in named or other == path[-1]):
            problem = "no other source of this name"
            yield _unknown((*path, field), problem, other, [name for name in named if name != path[-1]])
    for field in ("prompts_as", "prompts_also_in"):
        if _given(source, field) and _given(source, "text"):
            problem = "plain text has no prompts"
            yield Problem(path=(*path, field), problem=problem, fix=f"leave {field} out, or use rows")
    other = _word(source, "prompts_as")
    partner = named.get(other or "")
    if not isinstance(partner, Mapping):
        return
    if _given(partner, "text"):
        problem = "the source that it names is plain text, which has no prompts"
        yield Problem(path=(*path, "prompts_as"), problem=problem, fix="name a source of rows")
    if _given(partner, "prompts_as"):
        problem = "the source that it names takes its prompts from another itself"
        fix = f"name {_word(partner, 'prompts_as')}, or leave one of the two out"
        yield Problem(path=(*path, "prompts_as"), problem=problem, fix=fix)
    others = (each for each in named.values() if isinstance(each, Mapping))
    if any(_given(each, "lengths_as") for each in (source, partner)) or any(
        _word(each, "lengths_as") in (path[-1], other) for each in others
    ):
        problem = "pools of the same prompts cannot be cut to the same lengths too: each cut would undo the other"
        yield Problem(path=(*path, "prompts_as"), problem=problem, fix="leave prompts_as or lengths_as out")


def _false_doses(study: Mapping[str, Any], source: str) -> Iterator[Problem]:
    """Only facts can be made false."""
    doses = _mapping(_mapping(study, "arms"), "doses").get(source)
    for index, dose in enumerate(doses if isinstance(doses, list) else ()):
        if isinstance(dose, dict) and isinstance(dose.get("alter"), dict):
            problem = "these rows are no facts, so they cannot be made false"
            fix = f"generalist.{source}.facts: {{rows: FILE}}, or alter: shuffled"
            yield Problem(path=("arms", "doses", source, index, "alter"), problem=problem, fix=fix)


def _names_clash(study: Mapping[str, Any]) -> Iterator[Problem]:
    """A row's source is a pool's name or its target's, so they have to differ."""
    pools = study.get("generalist")
    named = study.get("targets")
    names = list(named) if isinstance(named, dict) else [study.get("name")]
    for name in names:
        if isinstance(pools, dict) and isinstance(name, str) and name in pools:
            problem = "a source has the name of the " + ("target" if isinstance(named, dict) else "study")
            yield Problem(path=("generalist", str(name)), problem=problem, fix="rename one of the two")


def _dosed_sources(study: Mapping[str, Any]) -> Iterator[Problem]:
    declared = study.get("generalist")
    if declared is not None and not isinstance(declared, dict):
        return
    names = list(declared or ())
    arms = _mapping(study, "arms")
    for path, dosed in (
        (("arms", "doses"), arms.get("doses")),
        *((("arms", "blends", *at, "shares"), blend.get("shares")) for at, blend in _blends(arms)),
    ):
        for name in dosed if isinstance(dosed, dict) else ():
            if name not in names:
                yield _unknown((*path, name), "this source is not declared under generalist", name, names)


def _something_to_titrate(study: Mapping[str, Any]) -> Iterator[Problem]:
    arms = _mapping(study, "arms")
    if study.get("generalist") and not _given(arms, "doses") and not _given(arms, "blends"):
        path: KeyPath = ("arms",) if "arms" in study else ("generalist",)
        problem = "there are generalist rows, but no dose of them"
        yield Problem(path=path, problem=problem, expected="arms.doses: {SOURCE: [96, 352]}")
    learned = _mapping(study, "retention").get("learned")
    if learned is not None and not _is_null(learned) and not study.get("generalist"):
        problem = "learned is about the generalist pool, and there is none"
        yield Problem(path=("retention", "learned"), problem=problem, fix="declare generalist, or leave learned out")


def _twice(study: Mapping[str, Any]) -> Iterator[Problem]:
    """The same value twice in a ladder is the same arm twice."""
    arms, training = _mapping(study, "arms"), _mapping(study, "training")
    ladders: list[tuple[KeyPath, Any]] = [(("arms", key), arms.get(key)) for key in ("target_rows", "seeds")]
    doses = arms.get("doses")
    ladders += [
        (("arms", "doses", name), ladder) for name, ladder in (doses.items() if isinstance(doses, dict) else ())
    ]
    ladders += [(("training", key), training.get(key)) for key in ("learning_rate", "passes")]
    for path, ladder in ladders:
        seen = set()
        for index, item in enumerate(ladder if isinstance(ladder, list) else ()):
            marked = _comparable(item)
            if marked in seen:
                yield Problem(path=(*path, index), problem="stands twice in the list", got=described(item))
            seen.add(marked)


def _verdict_size(study: Mapping[str, Any]) -> Iterator[Problem]:
    wanted = study.get("verdict_at")
    sizes = _mapping(study, "arms").get("target_rows", Plain("all"))
    listed = [str(size) for size in (sizes if isinstance(sizes, list) else [sizes]) if isinstance(size, str)]
    if isinstance(wanted, Plain) and wanted.isdecimal() and wanted not in listed:
        yield Problem(
            path=("verdict_at",),
            problem="not one of arms.target_rows",
            got=str(wanted),
            expected=" | ".join([*dict.fromkeys(size for size in listed if size.isdecimal()), "largest"]),
        )


def _staged(study: Mapping[str, Any]) -> Iterator[Problem]:
    """What a staged study needs beside a grid, and what says nothing of a grid."""
    arms = _mapping(study, "arms")
    most = isinstance(arms.get("seeds"), dict)
    if _word(study, "until") != "firm":
        if most:
            problem = "the most seeds are for a study that stops by itself, and this one is a grid"
            yield Problem(path=("arms", "seeds"), problem=problem, fix="until: firm, or a number of seeds")
        if _word(study, "curves") in ("never", "with"):
            problem = "a grid runs all of its arms in any case, so curves says nothing"
            yield Problem(path=("curves",), problem=problem, fix="until: firm, or leave curves out")
        return
    if not _given(study, "smallest_effect"):
        problem = "a staged study needs the difference that matters to you before its first score"
        yield Problem(path=("until",), problem=problem, expected="smallest_effect", fix="smallest_effect: 0.03")
    if not _given(arms, "doses") and not _given(arms, "blends"):
        problem = "no dose is compared with anything, so no verdict can become firm"
        fix = "arms.doses: {SOURCE: [96]}, or leave until out"
        yield Problem(path=("until",), problem=problem, fix=fix)
    yield from _staged_seeds(arms.get("seeds"))


def _staged_seeds(said: Any) -> Iterator[Problem]:
    from titrant.stats.looks import FIRST_LOOK, MOST_SEEDS

    path: KeyPath = ("arms", "seeds", "most") if isinstance(said, dict) else ("arms", "seeds")
    value = said.get("most") if isinstance(said, dict) else said
    count = len(value) if isinstance(value, list) else None
    if isinstance(value, Plain | int) and str(value).isascii() and str(value).isdecimal():
        count = int(value)
    if count is None or FIRST_LOOK <= count <= MOST_SEEDS:
        return
    yield Problem(
        path=path,
        problem=f"until: firm with {count} {'seed' if count == 1 else 'seeds'}: it is first judged at {FIRST_LOOK}"
        if count < FIRST_LOOK
        else "more seeds than a staged study can be planned for",
        got=described(value),
        expected=f"{FIRST_LOOK} to {MOST_SEEDS} seeds",
        fix="seeds: {most: 20}",
    )


def _training(study: Mapping[str, Any]) -> Iterator[Problem]:
    training = _mapping(study, "training")
    if _given(training, "lora") and _word(training, "method") != "lora":
        yield Problem(path=("training", "lora"), problem="adapters are set, but not used", fix="method: lora")
    listed = [key for key in ("learning_rate", "passes") if _several(training.get(key))]
    for path, target in _targets(study):
        if listed and not _given(target, "validation"):
            yield Problem(
                path=("training", listed[0]),
                problem=f"a list is chosen from on validation rows, and {'.'.join(map(str, path))} has none",
                fix="validation: 0.1 in the target, or one value",
            )


def _transfer(study: Mapping[str, Any]) -> Iterator[Problem]:
    targets = study.get("targets")
    if _word(study, "transfer") == "true" and not (isinstance(targets, dict) and len(targets) > 1):
        problem = "transfer is from one target to another, and the study has one"
        yield Problem(path=("transfer",), problem=problem, fix="name several targets, or leave transfer out")


_CHECKS: tuple[Callable[[Mapping[str, Any]], Iterator[Problem]], ...] = (
    _one_or_several,
    _target_rows_of_files,
    _collections,
    _answers,
    _columns,
    _formats,
    _one_metric_a_name,
    _pools,
    _names_clash,
    _dosed_sources,
    _something_to_titrate,
    _twice,
    _verdict_size,
    _staged,
    _training,
    _transfer,
)


def _targets(study: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    single, several = study.get("target"), study.get("targets")
    if isinstance(single, dict):
        yield ("target",), single
    for name, target in several.items() if isinstance(several, dict) else ():
        if isinstance(target, dict):
            yield ("targets", name), target


def _sources(study: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    for name, source in _mapping(study, "generalist").items():
        if isinstance(source, dict):
            yield ("generalist", name), source


def _blends(arms: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    blends = arms.get("blends")
    if isinstance(blends, dict):
        yield (), blends
    for index, blend in enumerate(blends if isinstance(blends, list) else ()):
        if isinstance(blend, dict):
            yield (index,), blend


def _mapping(owner: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = owner.get(key)
    return value if isinstance(value, dict) else {}


def _is_null(value: Any) -> bool:
    return isinstance(value, Plain) and value.is_null


def _given(owner: Mapping[str, Any], key: str) -> bool:
    return key in owner and not _is_null(owner[key]) and owner[key] != {} and owner[key] != []


def _word(owner: Mapping[str, Any], key: str) -> str | None:
    value = owner.get(key)
    return str(value) if isinstance(value, str) else None


def _several(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1


def _is_share(value: Any) -> bool:
    """Whether a value is a number without quotes."""
    if not isinstance(value, Plain):
        return isinstance(value, float)
    try:
        float(value)
    except ValueError:
        return False
    return True


def _comparable(value: Any) -> Any:
    """Numbers by value, so that 2e-5 and 2.0e-5 are the same; everything else by what it says."""
    if isinstance(value, dict):
        return tuple(sorted((str(key), str(_comparable(item))) for key, item in value.items()))
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _unknown(path: KeyPath, problem: str, name: str, known: list[str]) -> Problem:
    near = difflib.get_close_matches(name[:60], known, n=1, cutoff=0.6)
    fix = f"did you mean {near[0]}?" if near else None
    expected = "one of " + ", ".join(map(str, known)) if known else "a source under generalist"
    return Problem(path=path, problem=problem, expected=expected, fix=fix)
