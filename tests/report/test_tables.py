from __future__ import annotations

import pytest

from mcdrop.report.tables import difference_table, score_table, shared_level, verdict_lines
from tests.report.made import Reports


def test_scores_have_a_row_per_metric_and_a_cell_per_method(reports: Reports) -> None:
    for report in reports.values():
        table = score_table(report)
        assert table.methods == report.methods
        assert len(table.rows) == len(report.notes[report.name])
        for row in table.rows:
            assert tuple(cell.method for cell in row.cells) == report.methods


def test_a_missing_number_is_a_cell_with_its_reason(reports: Reports) -> None:
    rows = {row.measure.label: row for row in score_table(reports["regression"]).rows}
    point = rows["NLL"].cells[-1]
    assert (point.kind, point.value) == ("missing", "missing")
    assert point.remark == "a point forecast states no uncertainty"


def test_notes_are_lettered_in_the_order_of_their_cells(reports: Reports) -> None:
    table = score_table(reports["regression"])
    assert list(table.notes) == list("abcdefgh"[: len(table.notes)])
    used = {cell.footnote for row in table.rows for cell in row.cells} - {""}
    assert used == set(table.notes)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_differences_have_a_mark_only_where_one_way_is_better(reports: Reports, task: str) -> None:
    for row in difference_table(reports[task]).rows:
        for cell in row.cells:
            if cell.kind in ("identical", "missing"):
                assert cell.value == cell.kind
                assert cell.interval == ""
            else:
                assert bool(cell.remark) == (row.measure.better != "neither")


def test_every_verdict_has_a_line_and_the_level_they_share_is_named(reports: Reports) -> None:
    for report in reports.values():
        lines = verdict_lines(report)
        assert len(lines) == len(report.verdicts)
        rejected = [verdict.rejected for verdict in report.verdicts.values()]
        assert [line.said == "rejected" for line in lines] == rejected
        assert f"All {len(lines)} verdicts share the 5 % level" in shared_level(report)
