from __future__ import annotations

import numpy as np
import pytest

from tests.report.made import Reports


def test_coverage_is_drawn_in_percent_with_the_diagonal(reports: Reports) -> None:
    report = reports["regression"]
    (axes,) = report.figures()["coverage"].axes
    stated = report.curves["coverage"]
    assert len(axes.lines) == len(stated) + 1
    x, y = np.asarray(axes.lines[0].get_data())
    assert x == pytest.approx(100 * np.asarray(stated[0].x))
    assert y == pytest.approx(100 * np.asarray(stated[0].y))
    x, y = np.asarray(axes.lines[-1].get_data())
    assert x.tolist() == y.tolist() == [0.0, 100.0]


def test_the_pit_of_the_main_method_is_bars_that_add_up(reports: Reports) -> None:
    (axes,) = reports["regression"].figures()["pit"].axes
    bars = axes.containers[0]
    assert sum(bar.get_height() for bar in bars) == pytest.approx(100)


def test_error_by_std_shows_every_method_that_states_a_spread(reports: Reports) -> None:
    report = reports["regression"]
    (axes,) = report.figures()["error_by_std"].axes
    assert len(axes.lines) == len(report.curves["error_by_std"]) + 1
