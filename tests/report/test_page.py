import re
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from fake_study import undrawn_panel

from titrant.report.data import FairnessRow, ReportData, TrainingCurve, TrainingPoint
from titrant.report.page import MOST_ITEMS, render

HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "{{7*7}}{% raw %}",
    "javascript:window.hacked=1",
    '" onmouseover="window.hacked=1" \' x=\'',
    "]]><!--</title></style></textarea></svg></bdi></table>",
    "line\u2028sep\u2029and\x00null\x1b[31m\ud800half\u202eback",
    "<base href=https://example.org><meta http-equiv=refresh content=0>",
    "$&\\g<0>${7*7}#{7*7}%s{0}",
)
CHOSEN_WORDS = ("Literal", "ArmKind", "Measure", "Role", "LineKind", "Swatch")


def with_texts(value: Any, text: Callable[[str], str]) -> Any:
    """The record with every free text in it replaced."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple):
        return tuple(with_texts(part, text) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        free = [f for f in fields(value) if not any(word in str(f.type) for word in CHOSEN_WORDS)]
        return replace(value, **{f.name: with_texts(getattr(value, f.name), text) for f in free})
    return value


class Reader(HTMLParser):
    """What a browser would make of the page: elements, attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self._inside = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


def test_the_verdict_comes_first_with_its_sentence_and_its_numbers(filled_page: str) -> None:
    text = Reader(filled_page).text
    order = [
        text.index(words)
        for words in (
            "Mix in 352 rows",
            "Smallest effect that matters",
            "Each line is one arm",
            "The score on the test",
        )
    ]
    assert order == sorted(order)


def test_every_section_has_its_numbers(filled_page: str) -> None:
    text = Reader(filled_page).text
    for expected in (
        "−0.035 to +0.055",
        "Cross-fitted gain of the best dose: +0.054",
        "untuned model: 0.344",
        "always “billing”: 0.224",
        "37 −10 to at least 112",
        "judged 2 times",
        "135 million parameters",
        "7 rows left the pools",
        "near copy of a test item",
        "not a claim about the world",
        "Apache-2.0",
        "2.13.0",
        "doses: {general: [96, 352]}",
    ):
        assert expected in text, expected


def test_a_sparse_study_says_what_it_lacks_and_why(sparse: ReportData) -> None:
    text = Reader(render(sparse)).text
    for expected in (
        "Cannot tell yet",
        "provisional",
        "The cheapest next step. Three more seeds",
        "60 test items, fewer than 100",
        "1 run failed and is in none of the numbers",
        "the loss became NaN",
        "This study has no matched baseline",
        "fewer than two target sizes",
        "Not known: one target size: nothing to read a rate from",
        "Not known: the study file names neither retention.kept",
        "Not known: the dosed arm has no complete seed",
        "No training log was recorded",
    ):
        assert expected in text, expected
    assert "has been judged" not in text


def test_the_smallest_study_of_all_still_makes_a_page(sparse: ReportData) -> None:
    bare = replace(
        sparse,
        curves=(),
        fairness=(),
        failures=(),
        verdict=replace(sparse.verdict, contrasts=(), next_step=None, target_rows=None),
        provenance=replace(sparse.provenance, files=(), numerics=(), seeds=(), settings=(), study_yaml=""),
    )
    text = Reader(render(bare)).text
    assert "No contrast could be computed" in text
    assert "No arm was trained" in text
    assert "None." in text
    assert not re.search(r"\bNone (rows|seeds|items)\b|>None<|\bnan\b", text)


def test_the_same_data_make_the_same_page_and_no_date_slips_in(sparse: ReportData) -> None:
    assert render(sparse) == render(sparse)
    assert "Made</" not in render(sparse)
    made = replace(sparse.provenance, made="3 May, evening")
    assert "3 May, evening" in Reader(render(replace(sparse, provenance=made))).text


def assert_only_text(data: ReportData, hostile: str) -> None:
    """The hostile text, put before every text of the report, changes nothing but texts and attribute values."""
    calm = Reader(render(with_texts(data, lambda text: "calm " + text)))
    page = render(with_texts(data, lambda text: hostile + " " + text))
    page.encode()  # no lone surrogate is left
    assert not re.search("[\x00-\x08\x0b-\x1f\u2028\u2029\u202e]", page)
    read = Reader(page)
    assert read.elements == calm.elements
    assert [(tag, name) for tag, name, _ in read.attributes] == [(tag, name) for tag, name, _ in calm.attributes]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_in_a_sparse_study_adds_no_element_and_no_attribute(sparse: ReportData, hostile: str) -> None:
    assert_only_text(sparse, hostile)


def test_hostile_text_in_a_full_study_adds_no_element_and_no_attribute(filled: ReportData) -> None:
    assert filled.comparison is not None
    few = replace(filled.comparison, items=filled.comparison.items[:20])
    assert_only_text(replace(filled, comparison=few), " ".join(HOSTILE))


def test_foreign_text_is_never_evaluated_by_the_template(filled: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titrant.report.figures.drawn_panel", undrawn_panel)
    text = Reader(render(replace(filled, study="{{7*7}}", notes=("{% include 'x' %} {{ data }}",)))).text
    assert "{{7*7}}" in text
    assert "{% include 'x' %} {{ data }}" in text


def test_no_value_stands_where_a_browser_would_follow_or_run_it(filled_page: str) -> None:
    read = Reader(filled_page)
    assert {value for _, name, value in read.attributes if name == "href" and not value.startswith("#")} == {"data:,"}
    names = {name for _, name, _ in read.attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not names & {"src", "srcset", "style", "action", "formaction", "srcdoc", "xlink:href"}
    assert read.elements.count("script") == 1
    assert read.elements.count("style") == 1
    policy = next(value for _, name, value in read.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in re.sub(r"http://www\.w3\.org/(2000/svg|1999/xlink)", "", filled_page.replace("http-equiv", ""))


def test_headings_never_skip_a_level_and_there_is_one_title(filled_page: str) -> None:
    levels = [int(tag[1]) for tag in Reader(filled_page).elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_every_drawing_says_what_it_shows(filled_page: str) -> None:
    read = Reader(filled_page)
    labels = [value for tag, name, value in read.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) >= 9
    assert any("Score by dose, 160 target rows: no dose, 3 seeds: 0.704" in label for label in labels)
    hidden = [value for tag, name, value in read.attributes if tag == "svg" and name == "aria-hidden"]
    assert len(labels) + len(hidden) == read.elements.count("svg")


def items_alone(data: ReportData) -> ReportData:
    """Without most of the drawings, which take longer than the rest of the page."""
    return replace(data, curves=(), training=(), retention=())


def test_items_are_sorted_by_gain_and_the_rest_is_counted(make_filled: Callable[..., ReportData]) -> None:
    read = Reader(render(items_alone(make_filled(items=MOST_ITEMS + 55))))
    gains = [float(t.replace("−", "-")) for t in read.texts if re.fullmatch(r"[+−]\d\.\d{3}|0\.000", t)]
    shown = [v for tag, name, v in read.attributes if tag == "details" and name == "class" and v.startswith("item ")]
    assert len(shown) == MOST_ITEMS
    assert shown == sorted(shown, key=lambda name: name != "item won")
    assert gains
    assert "55 further items with smaller gains and losses are not on this page" in read.text


def test_the_left_out_items_are_those_with_the_smallest_gains(make_filled: Callable[..., ReportData]) -> None:
    data = make_filled(items=MOST_ITEMS + 1)
    assert data.comparison is not None
    least = min(data.comparison.items, key=lambda item: abs(item.gain))
    marked = replace(least, prompt="the least of all items")
    items = tuple(marked if item is least else item for item in data.comparison.items)
    assert "the least of all items" not in render(
        items_alone(replace(data, comparison=replace(data.comparison, items=items)))
    )


def test_equal_answers_of_several_seeds_stand_once(filled: ReportData) -> None:
    assert filled.comparison is not None
    item = filled.comparison.items[0]
    same = replace(
        item,
        answers=tuple(
            replace(arm, answers=tuple(replace(a, text="the same", score=0.5) for a in arm.answers))
            for arm in item.answers
        ),
    )
    data = replace(filled, comparison=replace(filled.comparison, items=(same,)))
    text = Reader(render(items_alone(data))).text
    assert len(re.findall("the same(?=score 0.5)", text)) == 3
    assert "score 0.500 · seeds 0, 1, 2 · graded" in text


def test_texts_of_any_length_leave_the_page_bounded(filled: ReportData) -> None:
    page = render(with_texts(filled, lambda text: "<&\x00\"'" * 20_000 + text))
    assert len(page.encode()) < 8_000_000
    assert "cut: 100," in page


def test_long_items_are_fewer_on_the_page_and_the_rest_is_counted(filled: ReportData) -> None:
    assert filled.comparison is not None
    long = tuple(
        replace(
            item,
            prompt="p" * 3000,
            answers=tuple(
                replace(arm, answers=tuple(replace(a, text=f"{arm.arm} {a.seed}" * 100) for a in arm.answers))
                for arm in item.answers
            ),
        )
        for item in filled.comparison.items * 2
    )
    table = replace(filled.comparison, total=len(long), items=long)
    page = render(items_alone(replace(filled, comparison=table)))
    shown = page.count('<details class="item ')
    assert 100 < shown < MOST_ITEMS
    assert f"{len(long) - shown} further items" in page
    assert len(page.encode()) < 3_000_000


def test_a_study_of_five_thousand_runs_is_rendered_in_seconds(filled: ReportData) -> None:
    blank = filled.fairness[1]
    fairness: tuple[FairnessRow, ...] = tuple(replace(blank, arm=f"arm {n}") for n in range(1000))
    curve = filled.training[0]
    points = tuple(TrainingPoint(step=n, loss=1.0 / n, target_loss=0.5 / n) for n in range(1, 101))
    training: tuple[TrainingCurve, ...] = tuple(
        replace(curve, arm=f"arm {n % 1000}", seed=n // 1000, points=points) for n in range(5000)
    )
    began = time.process_time()  # whatever else this machine does
    page = render(replace(filled, fairness=fairness, training=training))
    assert time.process_time() - began < 30  # 60 s are allowed for the whole of `titrant report`
    assert len(page.encode()) < 6_000_000
