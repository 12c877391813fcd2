from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from tests.report.made import Reports


def test_reliability_counts_the_rows_of_the_main_method_below(reports: Reports) -> None:
    report = reports["classification"]
    _, counts = report.figures()["reliability"].axes
    heights = [bar.get_height() for bar in counts.patches if isinstance(bar, Rectangle)]
    assert heights == list(report.curves["reliability"][0].count)


def test_referral_starts_at_the_error_rate_of_all_rows(reports: Reports) -> None:
    report = reports["classification"]
    (axes,) = report.figures()["referral"].axes
    x, y = np.asarray(axes.lines[0].get_data())[:, 0]
    assert (x, y) == pytest.approx((0.0, 100 * (1 - report.metrics["accuracy"].value)))


def test_every_method_has_its_line_in_error_by_entropy(reports: Reports) -> None:
    report = reports["classification"]
    (axes,) = report.figures()["error_by_entropy"].axes
    assert len(axes.lines) == len(report.methods)
