from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from mcdrop.displays import CoverageDisplay
from tests.report.made import normal_prediction, passes_prediction


@pytest.mark.parametrize("family", ["normal", "mixture"])
def test_it_counts_the_targets_inside_the_intervals_of_the_prediction(family: str) -> None:
    prediction, y = passes_prediction(n=80)
    prediction = prediction if family == "mixture" else prediction.as_normal()
    curve = CoverageDisplay.from_predictions(y, prediction, ax=Figure().add_subplot()).curve
    for level in (0.2, 0.5, 0.9):
        low, high = prediction.interval(level)
        share = ((low <= y) & (y <= high)).double().mean().item()
        assert curve.y[curve.x.index(level)] == share


def test_it_is_drawn_in_percent_with_the_diagonal() -> None:
    prediction, y = normal_prediction()
    ax = Figure().add_subplot()
    display = CoverageDisplay.from_predictions(y, prediction, ax=ax)
    x, height = display.line_.get_data()
    assert x == pytest.approx(100 * np.asarray(display.curve.x))
    assert height == pytest.approx(100 * np.asarray(display.curve.y))
    assert np.asarray(ax.lines[0].get_data()).tolist() == [[0.0, 100.0], [0.0, 100.0]]
