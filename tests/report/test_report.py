from __future__ import annotations

from tests.report.made import Reports


def test_repr_is_one_line(reports: Reports) -> None:
    shown = repr(reports["regression"])
    assert "\n" not in shown
    assert shown.startswith("CalibrationReport(regression, 120 rows, MC dropout vs Ridge vs Point:")
