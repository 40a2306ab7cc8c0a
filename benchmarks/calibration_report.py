"""What `make calibrate` measured, as a table on the terminal and as docs/calibration.md."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
TITLES = {
    "coverage": "Coverage of 95% intervals",
    "wrong": "Wrong verdicts",
    "firm": "Firm and right where `plan` promises it",
    "exchange": "The exchange rate",
    "sequential": "Wrong verdicts of staged studies",
}
BARS = {
    "coverage": "Bar: at least 93.5%; with 5 seeds or more at most 97%. Width is the median one; beside it, how many "
    "times the width of an interval that knows the true standard error.",
    "wrong": "Bar: at most 5%. Wrong is `mix` where no dose's true gain over the better baseline is above 0, and "
    "`train_alone` or `no_difference` where some dose's is at least the smallest effect.",
    "firm": "Bar: at least 80%, at exactly the effects that `plan` calls detectable, upwards and downwards, and "
    "without any effect at a smallest effect at which `plan` says that `no_difference` can be had.",
    "exchange": "Bar: the interval holds the true rate in at least 90%; where the curve is flat, at least 90% say that "
    "the rate cannot be pinned down.",
    "sequential": "Bar: at most 5%, over all looks together. Beside it, the same studies judged once at all seeds, and "
    "judged at every look without correction. Wrong is as above.",
}


def print_table(rows: list[Row]) -> None:
    """One line a cell, parts in order."""
    for purpose, title in TITLES.items():
        found = [row for row in rows if row["purpose"] == purpose]
        if found:
            print(f"\n{title}")
            for row in found:
                print("  " + _plain_line(row))


def write_page(rows: list[Row], path: Path, *, studies: int, stored: str | None) -> None:
    """The page, written whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_page(rows, studies=studies, stored=stored)) + "\n")


def _plain_line(row: Row) -> str:
    shares = ", ".join(f"{name} {_share(share)} {_mark(share['passed'])}" for name, share in row["shares"].items())
    rivals = ", ".join(f"{name} {100 * share['value']:.1f}" for name, share in row.get("rivals", {}).items())
    return f"{row['name']}: {shares}" + (f" | {rivals}" if rivals else "")


def _page(rows: list[Row], *, studies: int, stored: str | None) -> Iterator[str]:
    import numpy
    import scipy

    import titrant

    missed = [(row, name) for row in rows for name, share in row["shares"].items() if share["passed"] is False]
    yield "# Calibration"
    yield ""
    yield "Written by `make calibrate` (`python benchmarks/calibrate.py`) from simulated studies whose truth is known;"
    yield "no number here is typed by hand. The worlds are told in `src/titrant/stats/simulation.py`, which knows"
    yield "nothing of the analysis; the analysis assumes none of the logistic worlds, the heavy tails, the unequal"
    yield "variances or the"
    yield "overlapping draws. The share of seeds is that in the variance of the estimated difference."
    yield ""
    yield f"{studies} studies in a cell (half of it for the exchange rate); ± is one Monte-Carlo error. A cell fails"
    yield "when it misses its bar by more than three of them."
    yield (
        f"Titrant {titrant.__version__}, Python {platform.python_version()}, numpy {numpy.__version__}, "
        f"scipy {scipy.__version__}."
    )
    yield ""
    if stored is None:
        yield "Stored scores of real runs were not given (`--stored none`), so that world is not in these tables."
    else:
        yield f"The world `stored` resamples seeds and items of `{_shown(stored)}`: scores of real"
        yield "runs, the whole of which it takes for the population."
    yield ""
    yield f"**{len(rows)} cells, {len({id(row) for row, _ in missed})} missed.**"
    yield ""
    for row, name in missed:
        yield f"- missed: {row['name']}: {name} {_share(row['shares'][name])}"
    if missed:
        yield ""
    yield from _summary(rows)
    for purpose, title in TITLES.items():
        found = [row for row in rows if row["purpose"] == purpose]
        if found:
            yield f"## {title}"
            yield ""
            yield BARS[purpose]
            yield ""
            yield from (_verdict_table(found) if "rivals" in found[0] else _interval_table(found))
            yield ""


def _summary(rows: list[Row]) -> Iterator[str]:
    """Ours beside the others': the mean over cells of the rate of wrong verdicts, by kind of truth."""
    kinds = {
        "`mix` where no dose helps": lambda row: row["purpose"] == "wrong" and row["bad"] == ["mix"],
        "`train_alone` or `no_difference` where a dose is worth the smallest effect": lambda row: (
            row["purpose"] == "wrong" and "train_alone" in row["bad"]
        ),
        "firm and right at what `plan` promises": lambda row: row["purpose"] == "firm",
    }
    names = next((list(row["rivals"]) for row in rows if row.get("rivals")), None)
    if names is None:
        return
    yield "## Side by side"
    yield ""
    yield "The same studies, judged as others judge them. Means over the cells below; in brackets the worst cell."
    yield "A difference that is not significant is read as no difference, as it is in practice."
    yield ""
    yield "| | titrant | " + " | ".join(names) + " |"
    yield "| --- | " + " | ".join("---:" for _ in ["titrant", *names]) + " |"
    for text, belongs in kinds.items():
        found = [row for row in rows if belongs(row) and row["shares"]]
        if found:
            worst = min if found[0]["purpose"] == "firm" else max
            ours = [next(iter(row["shares"].values()))["value"] for row in found]
            columns = [ours, *([row["rivals"][name]["value"] for row in found] for name in names)]
            cells = (f"{100 * sum(column) / len(column):.1f}% ({100 * worst(column):.1f}%)" for column in columns)
            yield f"| {text} | " + " | ".join(cells) + " |"
    yield ""


def _interval_table(rows: list[Row]) -> Iterable[str]:
    coverage = rows[0]["purpose"] == "coverage"
    more = "width | × true" if coverage else "width | closed | not pinned down"
    yield f"| world | what | share | | {more} |"
    yield "| --- | --- | ---: | --- | " + " | ".join("---:" for _ in more.split("|")) + " |"
    for row in rows:
        width = row["median_width"]
        shown = "" if width is None else f"{width:.3f}" if coverage else f"{width:.0f}"
        if coverage:
            true = row["true_error"]
            last = shown + " | " + (f"{width / (2 * 1.96 * true):.2f}" if true else "")
        else:
            last = f"{shown} | {100 * row['closed']:.0f}% | {100 * row['not_pinned_down']:.0f}%"
        for name, share in row["shares"].items():
            yield f"| {row['name']} | {name} | {_share(share)} | {_mark(share['passed'])} | {last} |"


def _verdict_table(rows: list[Row]) -> Iterable[str]:
    names = next((list(row["rivals"]) for row in rows if row["rivals"]), [])
    words = ("mix", "train_alone", "no_difference", "cannot_tell")
    yield "| world | effect | smallest | titrant | | " + " | ".join(names) + " | said: " + ", ".join(words) + " |"
    yield "| --- | ---: | ---: | ---: | --- | " + " | ".join("---:" for _ in names) + " | --- |"
    for row in rows:
        if not row["shares"]:
            yield f"| {row['name']} | | {row['smallest_effect']:.4f} | `plan` promises nothing | {'| ' * len(names)}| |"
            continue
        sizes = f"{row['effect']:+.4f} | {row['smallest_effect']:.4f}"
        rivals = " | ".join(f"{100 * row['rivals'][name]['value']:.1f}%" for name in names)
        said = ", ".join(f"{100 * row['said'].get(word, 0.0):.1f}" for word in words)
        for share in row["shares"].values():
            yield f"| {row['name']} | {sizes} | {_share(share)} | {_mark(share['passed'])} | {rivals} | {said} |"


def _shown(path: str) -> str:
    """A path within the project as it stands there."""
    root = Path(__file__).resolve().parent.parent
    found = Path(path).resolve()
    return str(found.relative_to(root)) if found.is_relative_to(root) else found.name


def _share(share: dict[str, Any]) -> str:
    return f"{100 * share['value']:.2f} ± {100 * share['error']:.2f}%"


def _mark(passed: bool | None) -> str:
    return {True: "met", False: "**missed**", None: ""}[passed]
