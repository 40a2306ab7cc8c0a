"""The command line. stdout carries results, stderr progress and errors.

Exit codes: 0 for any verdict, 1 for a failed run, 2 for an error of the user's, 130 and 143 for signals. Only typer is
imported here; every verb imports what it needs when it is called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from titrant import __version__
from titrant.core.errors import Interrupted, SpecError, TitrantError
from titrant.core.redaction import guard_output, sayable

app = typer.Typer(
    name="titrant",
    help="How much generalist instruction data should a specialist be trained with? Measured, with a verdict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyPath = Annotated[Path, typer.Argument(help="the study file (YAML)", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="the folder for everything that comes out (default: titrations/<name>)")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object instead of text")]
Failed = Annotated[
    list[str] | None, typer.Option(help="ARM=SEED, a run that failed and has no scores; may be given several times")
]
Until = Annotated[
    str | None, typer.Option(help="grid, or firm: stop when the verdict is firm (default: what the study says)")
]
SmallestEffect = Annotated[
    float | None, typer.Option(help="the difference that matters to you, 0 to 1 (default: 0.01)")
]
Evaluator = Annotated[str | None, typer.Option("--from", help="judge logs of lm-eval or inspect")]
LogArms = Annotated[
    list[str] | None, typer.Option(help="ARM:SEED=PATH, a run and its log (with --from); one for each run")
]
LogTasks = Annotated[list[str] | None, typer.Option(help="only this task (with --from); may be given again")]
LogRetention = Annotated[
    list[str] | None, typer.Option(help="a task to be kept, not learned (with --from); may be given again")
]
LogMetrics = Annotated[
    list[str] | None, typer.Option(help="which score of the logs decides: NAME, or TASK=NAME each (with --from)")
]
LogFilters = Annotated[
    list[str] | None, typer.Option("--filter", help="which filter of lm-eval: NAME, or TASK=NAME each (with --from)")
]
LogGroup = Annotated[str | None, typer.Option(help="the field that says which items are one sample (with --from)")]
Jobs = Annotated[str, typer.Option(help="worker processes: a number or auto; it never changes a result")]


def main() -> None:
    """The entry point of `titrant`."""
    run_app(app)


def run_app(app: typer.Typer) -> None:
    """Run a command line: turns our errors into one message and an exit code."""
    import os
    import signal

    # Many small products: threads of numpy's own cost far more than they bring, most of all on a busy machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _terminated)
    guard_output()
    try:
        app()
    except TitrantError as error:
        print(sayable(f"titrant: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("titrant: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        print(sayable(f"titrant: {error.strerror or error}: {error.filename or ''}".rstrip(": ")), file=sys.stderr)
        sys.exit(1)


def _terminated(number: int, _: object) -> None:
    raise Interrupted(number)


@app.command(epilog="Example: titrant init --model org/name --target tickets.csv --generalist general.jsonl")
def init(
    model: Annotated[str, typer.Option(help="package:NAME/FILE.gguf, a hub id, a folder or a .gguf file")],
    target: Annotated[str, typer.Option(help="the task's rows: JSON Lines, CSV, Parquet")],
    generalist: Annotated[list[str], typer.Option(help="general instruction rows; may be given several times")],
    test: Annotated[str | None, typer.Option(help="the test items (default: a share of the rows)")] = None,
    name: Annotated[str | None, typer.Option(help="the study's name (default: the file's)")] = None,
    out: Annotated[Path, typer.Option(help="the study file to write")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option(help="replace an existing file")] = False,
    budget: Annotated[
        str | None, typer.Option(help="1h, 3Mtok or 40runs: a study that is likely to be firm within it")
    ] = None,
) -> None:
    """Write a commented study from a model, a file of rows and a pool."""
    from titrant.core.budget import parse_budget
    from titrant.experiment.scaffold import write_study

    written = write_study(
        model=model,
        target=target,
        generalist=generalist,
        out=out,
        test=test,
        name=name,
        force=force,
        budget=None if budget is None else parse_budget(budget),
        say=lambda text: _say(f"titrant: {text}"),
    )
    for warning in written.warnings:
        _say(f"titrant: {warning}")
    print(f"{written.path} is written; the smallest arm takes {written.smallest_arm_steps} optimiser steps")
    for line in written.why:
        print(line)
    print(f"next: titrant plan {written.path}, then titrant run {written.path}")


@app.command(epilog="Example: titrant plan studies/quickstart.yaml")
def plan(
    study: StudyPath,
    out: Out = None,
    jobs: Jobs = "auto",
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="measure speed and memory anew on a few training steps, or not at all (default: what is not known)",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Arms, rows, steps, tokens, minutes, memory, and what the design can find. Trains nothing that is kept."""
    from titrant.cli.plan import show_plan

    show_plan(_load(study), out=out, jobs=_jobs(jobs), measure=measure, as_json=as_json)


@app.command(
    epilog="Example: titrant mix study.yaml --target-rows 48 --dose general=96 --seed 1 --out arm.jsonl --format alpaca"
)
def mix(
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="the file to write; a sidecar OUT.mix.json is written beside it")],
    target_rows: Annotated[int, typer.Option(help="the target size of the arm; 0 for generalist alone")],
    dose: Annotated[list[str] | None, typer.Option(help="SOURCE=ROWS; several times for a blend")] = None,
    seed: Annotated[int, typer.Option(help="one of the study's seeds")] = 0,
    form: Annotated[str, typer.Option("--format", help="messages, alpaca or prompt-completion")] = "messages",
    target: Annotated[str | None, typer.Option(help="which target, where the study has several")] = None,
    model: Annotated[str | None, typer.Option(help="which model, where the study has several")] = None,
    trainer: Annotated[
        str | None, typer.Option("--for", help="trl, llamafactory, axolotl or swift: its rows and its configuration")
    ] = None,
    matched: Annotated[bool, typer.Option(help="the matched baseline's visits (with --for)")] = False,
) -> None:
    """Write one arm's exact rows, for any trainer."""
    from titrant.cli.plan import write_arm

    write_arm(
        _load(study),
        out=out,
        target_rows=target_rows,
        doses=dose or [],
        seed=seed,
        form=form,
        target=target,
        model=model,
        trainer=trainer,
        matched=matched,
    )


@app.command(epilog="Example: titrant run studies/quickstart.yaml --jobs 2")
def run(
    study: StudyPath,
    out: Out = None,
    jobs: Jobs = "auto",
    until: Until = None,
    budget: Annotated[
        str | None, typer.Option(help="30m, 3Mtok or 40runs: end a study with until: firm early, resume with more")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train what is not done yet, answer, judge, report, and keep the recommended model."""
    from titrant.cli.run import run_and_print

    raise typer.Exit(run_and_print(_load(study, until), out=out, jobs=_jobs(jobs), budget=budget, as_json=as_json))


@app.command(epilog="Example: titrant report studies/quickstart.yaml")
def report(study: StudyPath, out: Out = None, until: Until = None, as_json: AsJson = False) -> None:
    """Score, judge and report what is stored, without training."""
    from titrant.cli.run import report_and_print

    raise typer.Exit(report_and_print(_load(study, until), out=out, as_json=as_json))


@app.command(epilog="Example: titrant export studies/quickstart.yaml --to ./my-model")
def export(
    study: StudyPath,
    to: Annotated[Path, typer.Option(help="an empty or new folder for the model, in Hugging Face format")],
    arm: Annotated[str | None, typer.Option(help="an arm by name (default: the recommended one)")] = None,
    seed: Annotated[int | None, typer.Option(help="one of the study's seeds (default: the first)")] = None,
    out: Out = None,
    until: Until = None,
) -> None:
    """Copy a trained model out; an arm whose weights were not kept is trained again, to the same bits."""
    from titrant.cli.run import export_model

    export_model(_load(study, until), to=to, arm=arm, seed=seed, out=out)


@app.command(epilog="Example: titrant check study.yaml")
def check(study: StudyPath, as_json: AsJson = False) -> None:
    """Duplicates, test items in pools, and how much of a pool is the target's own kind, with the evidence."""
    from titrant.cli.tables import show_check

    show_check(_load(study), as_json=as_json)


@app.command(epilog="Example: titrant breadth rows.jsonl --task dataset")
def breadth(
    rows: Annotated[Path, typer.Argument(help="a file or folder of rows", show_default=False)],
    task: Annotated[str | None, typer.Option(help="the column that names a row's task")] = None,
    column: Annotated[list[str] | None, typer.Option(help="OURS=THEIRS, such as text=body; may be repeated")] = None,
    words: Annotated[bool, typer.Option("--words", help="compare prompts by words, without sentence vectors")] = False,
    as_json: AsJson = False,
) -> None:
    """How much ground rows cover: tasks, answer formats, label sets, diversity, and where on the ladder they stand."""
    from titrant.cli.tables import show_breadth

    show_breadth(rows, task=task, columns=column or [], words_only=words, as_json=as_json)


@app.command(epilog="Example: titrant advise study.yaml --skill reasoning --breadth narrow")
def advise(
    study: StudyPath,
    breadth: Annotated[str | None, typer.Option(help="narrow or broad (default: measured)")] = None,
    skill: Annotated[
        str | None, typer.Option(help="understanding, reasoning or facts (default: the target's own)")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What the literature leads one to expect, with its source, and the cheapest pilot that would settle it here."""
    from titrant.cli.tables import show_advice

    show_advice(_load(study), breadth=breadth, skill=skill, as_json=as_json)


@app.command(epilog="Example: titrant score predictions.jsonl --metric rouge_l --per-item items.jsonl")
def score(
    predictions: Annotated[
        Path, typer.Argument(help="rows or a table of id, prediction and references (one text, or a list)")
    ],
    metric: Annotated[
        str, typer.Option(help="exact_match, f1, rouge_l, accuracy, last_number, macro_f1 or FILE.py:NAME")
    ],
    per_item: Annotated[Path | None, typer.Option(help="write each item's score here (JSON Lines)")] = None,
    as_json: AsJson = False,
) -> None:
    """Score anyone's predictions, 0 to 1."""
    from titrant.cli.tables import show_score

    show_score(predictions, metric=metric, per_item=per_item, as_json=as_json)


@app.command(epilog="Example: titrant judge scores.csv --baseline alone --smallest-effect 0.02 --json")
def judge(
    scores: Annotated[list[Path] | None, typer.Argument(help="CSV files: arm, seed, item, score, ...")] = None,
    baseline: Annotated[str | None, typer.Option(help="the arm without a dose")] = None,
    matched: Annotated[str | None, typer.Option(help="the arm without a dose that took as many steps")] = None,
    smallest_effect: SmallestEffect = None,
    level: Annotated[float | None, typer.Option(help="confidence level (default: 0.95)")] = None,
    drop_incomplete: Annotated[bool, typer.Option(help="drop items that some run lacks, and count them")] = False,
    by_item: Annotated[bool, typer.Option(help="weigh every item the same, not every task")] = False,
    staged: Annotated[Path | None, typer.Option(help="judge by this protocol: its looks, its arms, its level")] = None,
    failed: Failed = None,
    evaluator: Evaluator = None,
    arm: LogArms = None,
    task: LogTasks = None,
    retention: LogRetention = None,
    metric: LogMetrics = None,
    filter_: LogFilters = None,
    group: LogGroup = None,
    as_json: AsJson = False,
) -> None:
    """The verdict on anyone's scores, one line a file; with --from, on the logs of an evaluator."""
    from titrant.cli.logs import LogOptions, show_judged_logs

    of_logs = LogOptions(arm or [], task or [], retention or [], metric or [], filter_ or [], group)
    if evaluator is not None:
        show_judged_logs(
            evaluator,
            of_logs,
            baseline=baseline,
            matched=matched,
            smallest_effect=smallest_effect,
            level=level,
            drop_incomplete=drop_incomplete,
            by_item=by_item,
            beside={"scores": bool(scores), "--staged": staged is not None, "--failed": bool(failed)},
            as_json=as_json,
        )
        return
    files = of_logs.files_instead(scores)
    if staged is not None or failed:
        from titrant.cli.staged import show_staged_judgements

        show_staged_judgements(
            files,
            protocol=staged,
            failed=failed or [],
            others={
                "--baseline": baseline is not None,
                "--matched": matched is not None,
                "--smallest-effect": smallest_effect is not None,
                "--level": level is not None,
                "--drop-incomplete": drop_incomplete,
                "--by-item": by_item,
            },
            as_json=as_json,
        )
        return
    from titrant.cli.tables import show_judgements

    show_judgements(
        files,
        baseline=baseline,
        matched=matched,
        smallest_effect=0.01 if smallest_effect is None else smallest_effect,
        level=0.95 if level is None else level,
        drop_incomplete=drop_incomplete,
        by_item=by_item,
        as_json=as_json,
    )


@app.command("next", epilog="Example: titrant next --protocol protocol.json --scores scores.csv --json")
def next_(
    scores: Annotated[Path, typer.Option(help="CSV: arm, seed, item, score, ...; it may be empty")],
    protocol: Annotated[Path | None, typer.Option(help="arms, smallest effect and the most seeds (JSON)")] = None,
    study: Annotated[Path | None, typer.Option(help="or a study file, as run --until firm would take it")] = None,
    model: Annotated[str | None, typer.Option(help="which model, where the study has several")] = None,
    target: Annotated[str | None, typer.Option(help="which target, where the study has several")] = None,
    shards: Annotated[int, typer.Option(help="workers: at least so many runs are named, while there are any")] = 1,
    failed: Failed = None,
    as_json: AsJson = False,
) -> None:
    """Ask and tell, for any trainer: the runs to do next, or stop and the verdict."""
    from titrant.cli.staged import show_next

    show_next(
        scores,
        protocol=protocol,
        study=study,
        model=model,
        target=target,
        shards=shards,
        failed=failed or [],
        as_json=as_json,
    )


@app.command(epilog="Example: titrant probe facts.jsonl --model org/name --out labels.jsonl --prompts 4")
def probe(
    rows: Annotated[Path, typer.Argument(help="facts of QA-Wikidata's form: question, answer, answers")],
    model: Annotated[str, typer.Option(help="package:NAME/FILE.gguf, a hub id, a folder or a .gguf file")],
    out: Annotated[Path, typer.Option(help="the labels to write, a fact a line; OUT.probe.json says how they came")],
    prompts: Annotated[int, typer.Option(min=1, max=1000, help="prompts a fact, each with shots of its own")] = 10,
    shots: Annotated[int, typer.Option(min=0, max=64, help="other facts of the relation before the question")] = 4,
    samples: Annotated[int, typer.Option(min=0, max=1000, help="samples a prompt; 0: greedy alone, cheaper")] = 0,
    temperature: Annotated[float, typer.Option(min=0.01, max=10.0, help="the temperature of the samples")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="which prompts")] = 0,
    role: Annotated[str | None, typer.Option(help="only subjects of dose, target or test")] = None,
    relation: Annotated[list[str] | None, typer.Option(help="only this relation; may be given several times")] = None,
    as_json: AsJson = False,
) -> None:
    """What the untuned model knows of each fact: highly, maybe, weakly known, or unknown; and beyond its prior."""
    from titrant.cli.tables import show_probe

    show_probe(
        rows,
        model=model,
        out=out,
        settings={"prompts": prompts, "shots": shots, "samples": samples, "temperature": temperature, "seed": seed},
        role=role,
        relations=relation or [],
        as_json=as_json,
    )


@app.command(epilog="Example: titrant doctor --store titrations/tickets")
def doctor(
    store: Annotated[Path | None, typer.Option(help="check every checksum in this folder of results")] = None,
    schema: Annotated[bool, typer.Option(help="print the JSON Schema of a study file")] = False,
) -> None:
    """What this machine computes with; the health of a store; the schema of a study."""
    from titrant.cli.tables import show_doctor

    raise typer.Exit(show_doctor(store=store, schema=schema))


sources = typer.Typer(
    help="Public pools of instruction rows: licences, sizes, known flaws, and which commit is read.",
    epilog="Example: titrant sources show dolly",
    add_completion=False,
    rich_markup_mode=None,
)
app.add_typer(sources, name="sources")
Lock = Annotated[Path, typer.Option(help="the lock file, beside the study")]


@sources.callback(invoke_without_command=True)
def _list_sources(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        from titrant.cli.sources import show_sources

        show_sources(as_json=as_json)


@sources.command("show", epilog="Example: titrant sources show dolly")
def show_source(
    name: Annotated[str, typer.Argument(help="a source of the catalogue")],
    lock: Lock = Path("sources.lock.json"),
    as_json: AsJson = False,
) -> None:
    """Print a source's card: each fact with the page that it was read from."""
    from titrant.cli.sources import show_card

    show_card(name, lock=lock, as_json=as_json)


@sources.command("pin", epilog="Example: titrant sources pin dolly")
def pin_source(
    name: Annotated[str, typer.Argument(help="a source of the catalogue")],
    lock: Lock = Path("sources.lock.json"),
    part: Annotated[str | None, typer.Option(help="[configuration/]split, where not the usual one")] = None,
    revision: Annotated[str | None, typer.Option(help="a commit or branch (default: the newest)")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the hub for a source's commit, licence and size, and keep them in the lock file."""
    from titrant.cli.sources import pin_and_print

    pin_and_print(name, lock=lock, part=part, revision=revision, as_json=as_json)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(f"titrant {__version__}")
        raise typer.Exit


def _load(path: Path, until: str | None = None) -> Any:
    from titrant.config.study import load_study

    if until not in (None, "grid", "firm"):
        raise SpecError("no such end", where="--until", got=until, expected="grid or firm")
    return load_study(path, until=cast("Literal['grid', 'firm'] | None", until))


def _jobs(value: str) -> Any:
    if value == "auto":
        return "auto"
    if value.isdecimal() and 1 <= int(value) <= 1024:
        return int(value)
    raise SpecError("not a number of jobs", where="--jobs", got=value, expected="auto, or 1 to 1024")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
