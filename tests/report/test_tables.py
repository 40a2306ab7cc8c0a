from dataclasses import replace

from titrant.core.records import Contrast
from titrant.report import tables
from titrant.report.data import CollapseRow, ExchangeRow, FairnessRow, ReportData

BLANK = FairnessRow(
    arm="a",
    kind="alone",
    target_rows=48,
    source=None,
    dose=0,
    seeds=0,
    steps=None,
    tokens=None,
    target_visits_per_row=None,
    generalist_visits=None,
    target_share_of_rows=None,
    target_share_of_loss_tokens=None,
    target_share_of_loss=None,
    reason="every run failed",
)


def test_an_unknown_number_is_called_so_and_its_reason_is_said_once() -> None:
    table = tables.fairness_table([BLANK, replace(BLANK, arm="b")])
    assert table.notes == ("every run failed",)
    for row in table.rows:
        unknown = [cell for cell in row if cell.note is not None]
        assert [cell.text for cell in unknown] == ["not known"] * 7
        assert {cell.note for cell in unknown} == {1}


def test_a_number_that_is_not_finite_is_unknown_and_never_printed() -> None:
    table = tables.fairness_table([replace(BLANK, steps=float("nan"), tokens=float("inf"))])
    assert "the value is not a finite number" in table.notes
    assert not any("nan" in cell.text or "inf" in cell.text for cell in table.rows[0])


def test_a_number_that_is_zero_is_shown_as_zero() -> None:
    row = tables.fairness_table([replace(BLANK, generalist_visits=0.0)]).rows[0]
    assert row[7].text == "0"
    assert row[7].note is None


def test_an_arm_without_target_rows_has_a_dash_where_target_rows_are_counted() -> None:
    row = tables.fairness_table([replace(BLANK, kind="generalist_alone", target_rows=0, source="dolly", dose=9)]).rows[
        0
    ]
    assert row[1].text == "9 rows of dolly, alone"
    assert row[6].text == "–"


def test_thresholds_changes_and_laws_say_what_is_not_known_and_why(filled: ReportData) -> None:
    thresholds = tables.threshold_table(filled.thresholds)
    assert thresholds.rows[0][2].text == "118"
    assert thresholds.rows[1][2].note == 1
    assert thresholds.notes == ("no target size that was run can be ruled out",)
    change = tables.change_table(filled.changes, over="target_rows").rows[0]
    assert [cell.text for cell in change[1:]] == ["matched baseline", "−0.021", "−0.044 to +0.002", "0.071"]
    skill = tables.change_table(filled.skills, over="skill").rows[0]
    assert skill[1].text == "facts against reasoning"
    law, silent = tables.law_table(filled.laws).rows
    assert law[3].text == "96 rows: 33; 352 rows: 108"
    assert silent[2].note == 1
    assert tables.law_table(filled.laws).notes == ("2 target sizes and 2 doses, fewer than 4 and 3",)


def test_transfer_has_tables_of_its_own_named_after_the_other_target(filled: ReportData) -> None:
    other = replace(filled.verdict.contrasts[0], eval_set="transfer:mails")
    verdict = replace(filled.verdict, transfer=(other,))
    assert len(tables.contrast_tables(verdict, metric="accuracy")) == 2
    (table,) = tables.contrast_tables(verdict, metric="accuracy", transfer=True)
    assert table.caption == f"On the test items of mails: difference from the plain baseline, {other.baseline}"


def test_the_fair_baseline_leads_and_other_probes_come_last(filled: ReportData) -> None:
    kept = replace(filled.verdict.contrasts[0], eval_set="retention")
    verdict = replace(filled.verdict, contrasts=(kept, *filled.verdict.contrasts))
    captions = [table.caption for table in tables.contrast_tables(verdict, metric="accuracy")]
    assert captions == [
        "Difference in accuracy from the matched baseline, 160-matched",
        "Difference in accuracy from the plain baseline, 160",
        "retention: Difference in accuracy from the plain baseline, 160",
    ]


def test_all_intervals_are_drawn_on_one_scale_with_zero_and_the_zone_in_one_place(filled: ReportData) -> None:
    drawn = [
        cell.interval
        for table in tables.contrast_tables(filled.verdict, metric="accuracy")
        for row in table.rows
        for cell in row
        if cell.interval is not None
    ]
    assert len(drawn) == len(filled.verdict.contrasts)
    assert len({(i.zero, i.zone_low, i.zone_high) for i in drawn}) == 1
    assert all(0 <= i.low < i.value < i.high <= 100 for i in drawn)
    assert all(i.zone_low < i.zero < i.zone_high for i in drawn)
    assert sum(i.low > i.zero for i in drawn) == 2  # +0.016 and +0.043 are the lower bounds above 0


def test_a_contrast_without_bounds_draws_nothing_and_gives_the_reason(sparse: ReportData) -> None:
    (table,) = tables.contrast_tables(sparse.verdict, metric="rouge_l")
    assert not any(cell.interval for cell in table.rows[0])
    assert table.notes == ("one of its two runs failed",)


def test_contrasts_from_different_samples_say_so_row_by_row(filled: ReportData) -> None:
    first, *rest = filled.verdict.contrasts
    smaller: Contrast = replace(first, difference=replace(first.difference, n_items=7))
    tables_of = tables.contrast_tables(replace(filled.verdict, contrasts=(smaller, *rest)), metric="accuracy")
    plain = next(table for table in tables_of if "plain" in table.caption)
    assert plain.remark is None
    assert plain.rows[0][-1].text.startswith("7 items, 3 seeds")


def test_baselines_stand_once_in_the_table_of_several_sources(make_filled: object) -> None:
    data = make_filled(sources=("general", "code"))  # type: ignore[operator]
    rows = tables.dose_table([curve for curve in data.curves if curve.measure == "score"]).rows
    recipes = [row[1].text for row in rows if row[0].text == "48"]
    assert recipes.count("plain baseline") == 1
    assert recipes.count("matched baseline") == 1
    assert len(recipes) == 6


def test_what_is_unknown_for_every_arm_is_a_remark_and_no_column() -> None:
    row = CollapseRow(
        arm="a",
        kind="alone",
        commonest_label="x",
        commonest_share=0.5,
        entropy_bits=1.0,
        never_ended=None,
        matched_no_label=0.25,
        reason="choices always end",
    )
    table = tables.collapse_table([row])
    assert table.remark == "Not known for any arm: never ended (choices always end)"
    assert [column.title for column in table.columns][-1] == "matched no label"
    one_known = tables.collapse_table([row, replace(row, never_ended=0.5)])
    assert one_known.remark is None
    assert one_known.rows[0][5].note == 1


def test_a_negative_rate_of_exchange_keeps_its_sign() -> None:
    row = ExchangeRow(target_rows=48, source="d", dose=96, baseline="plain", rows=-12, interval="−30 to −2")
    assert tables.exchange_table([row]).rows[0][3].text == "−12"


def test_a_table_of_very_many_rows_says_how_many_it_leaves_out() -> None:
    table = tables.fairness_table([BLANK] * (tables.MOST_ROWS + 234))
    assert len(table.rows) == tables.MOST_ROWS
    assert table.left_out is not None
    assert table.left_out.startswith("234 further rows")
