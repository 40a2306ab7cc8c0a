import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from titrant.report import figures
from titrant.report.data import ReportData, TrainingPoint
from titrant.report.drawing import score_domain

SVG = "{http://www.w3.org/2000/svg}"


def test_one_panel_a_target_size_with_the_dose_axis_marked_at_the_doses(filled: ReportData) -> None:
    figure = figures.dose_response(filled.curves, measure="score")
    assert figure is not None
    assert [panel.heading for panel in figure.panels] == ["48 target rows", "160 target rows"]
    for panel in figure.panels:
        texts = [text.text for text in ElementTree.fromstring(panel.svg).iter(f"{SVG}text")]
        assert {"0", "96", "352"} <= set(texts)


def test_marks_say_their_numbers_and_the_names_of_sources_stay_out_of_the_drawing(filled: ReportData) -> None:
    name = 'a "name" </svg><script>'
    curves = [replace(curve, source=name) for curve in filled.curves]
    figure = figures.dose_response(curves, measure="score")
    assert figure is not None
    root = ElementTree.fromstring(figure.panels[1].svg)
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert f"352 rows of {name}, 3 seeds: 0.792 (0.752 to 0.832)" in titles
    assert "matched baseline, 3 seeds: 0.731 (0.691 to 0.771)" in titles
    assert not any("script" in (text.text or "") for text in root.iter(f"{SVG}text"))
    assert "<script" not in figure.panels[1].svg


def test_drawings_take_their_colours_from_the_page_and_carry_no_style(filled: ReportData) -> None:
    figure = figures.dose_response(filled.curves, measure="score")
    assert figure is not None
    for panel in figure.panels:
        paint = {
            element.attrib[name]
            for element in ElementTree.fromstring(panel.svg).iter()
            for name in ("fill", "stroke")
            if name in element.attrib
        }
        assert all(value == "none" or value == "transparent" or value.startswith("var(--") for value in paint), paint
        assert "style=" not in panel.svg


def test_drawings_hold_no_ids_since_they_share_a_page(filled_page: str) -> None:
    drawings = re.findall(r"<svg xmlns.*?</svg>", filled_page, flags=re.DOTALL)
    assert len(drawings) >= 9
    assert not any(" id=" in drawing or "url(#" in drawing for drawing in drawings)


def test_there_is_no_figure_where_no_point_has_a_value(filled: ReportData) -> None:
    curves = [
        replace(c, points=tuple(replace(p, mean=None, low=None, high=None, by_seed=()) for p in c.points))
        for c in filled.curves
    ]
    assert figures.dose_response(curves, measure="score") is None
    assert figures.retention([], measure="kept") is None
    assert figures.training([], part="loss") is None


def test_a_panel_whose_runs_all_failed_is_drawn_empty(filled: ReportData) -> None:
    first, *rest = [c for c in filled.curves if c.measure == "score"]
    gone = replace(first, points=tuple(replace(p, mean=None, low=None, high=None, by_seed=()) for p in first.points))
    figure = figures.dose_response([gone, *rest], measure="score")
    assert figure is not None
    assert len(figure.panels) == 2


def test_one_target_size_makes_no_curve_over_sizes(filled: ReportData) -> None:
    one = [replace(curve, points=curve.points[:1]) for curve in filled.sizes]
    assert figures.size_response(one, filled.lines) is None


def test_lines_without_a_value_are_not_drawn_at_zero(filled: ReportData) -> None:
    lines = [replace(line, value=None, low=None, high=None, reason="not run") for line in filled.lines]
    figure = figures.size_response(filled.sizes, lines)
    assert figure is not None
    assert [entry.label for entry in figure.legend][:-1] == [curve.label for curve in filled.sizes]  # then the band's


def test_not_a_number_is_left_out_of_every_drawing(filled: ReportData) -> None:
    curve, *rest = filled.training
    points = (*curve.points[:5], TrainingPoint(step=6, loss=float("nan"), target_loss=float("inf")))
    for part in ("loss", "target"):
        figure = figures.training([replace(curve, points=points), *rest], part=part)  # type: ignore[arg-type]
        assert figure is not None
        assert not any("NaN" in panel.svg or "Infinity" in panel.svg for panel in figure.panels)


def test_very_many_target_sizes_are_not_all_drawn_and_it_is_said(filled: ReportData) -> None:
    base = filled.curves[0]
    curves = [replace(base, target_rows=rows) for rows in range(10, 10 + figures.MOST_PANELS + 3)]
    figure = figures.dose_response(curves, measure="score")
    assert figure is not None
    assert len(figure.panels) == figures.MOST_PANELS
    assert figure.left_out[0].startswith("3 target sizes not drawn")


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.5, 0.5], [0.0, 1.0], [0.31, 0.97, None, float("nan")]])
def test_score_axes_hold_all_values_inside_zero_to_one(values: list[float | None]) -> None:
    low, high = score_domain(values)
    assert 0 <= low < high <= 1
    assert all(low <= v <= high for v in values if v is not None and v == v)
