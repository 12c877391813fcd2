from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import binom, norm

from mcdrop.displays import PITDisplay
from tests.report.made import normal_prediction


def test_bars_are_the_histogram_of_the_normal_distribution_function() -> None:
    prediction, y = normal_prediction(n=300)
    ax = Figure().add_subplot()
    display = PITDisplay.from_predictions(y, prediction, ax=ax)
    place = norm.cdf((y - prediction.mean.numpy()) / prediction.std.numpy())
    expected = np.histogram(place, bins=10, range=(0, 1))[0] / 300
    assert display.curve.y == pytest.approx(expected)
    assert [bar.get_height() for bar in display.line_] == pytest.approx(100 * expected)


def test_the_bracket_spans_the_binomial_range_of_one_bar() -> None:
    prediction, y = normal_prediction(n=300)
    ax = Figure().add_subplot()
    PITDisplay.from_predictions(y, prediction, ax=ax)
    low, high = binom.interval(0.95, 300, 0.1)
    (bracket,) = (line for line in ax.lines if line.get_label() == "range if calibrated")
    assert set(np.asarray(bracket.get_ydata())) == {100 * low / 300, 100 * high / 300}
