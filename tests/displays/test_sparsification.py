from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from mcdrop.displays import SparsificationDisplay
from mcdrop.displays._curve import Curve
from mcdrop.displays.sparsification import shown_end
from tests.report.made import class_prediction, normal_like, normal_prediction


def test_it_starts_at_the_error_rate_of_all_rows_and_leaves_the_surest() -> None:
    prediction, y = class_prediction(n=400)
    curve = SparsificationDisplay.from_predictions(y, prediction, ax=Figure().add_subplot()).curve
    wrong = (prediction.labels != y).double()
    order = prediction.predictive_entropy.argsort()
    assert curve.x[0] == 0
    assert curve.y[0] == pytest.approx(wrong.mean().item())
    for x, error, kept in zip(curve.x, curve.y, curve.count, strict=True):
        assert kept == round((1 - x) * 400)
        assert error == pytest.approx(wrong[order[:kept]].mean().item())
    assert curve.x[-1] == 0.5


def test_the_rmse_is_that_of_the_rows_kept() -> None:
    prediction, y = normal_prediction(n=200)
    curve = SparsificationDisplay.from_predictions(y, prediction, ax=Figure().add_subplot()).curve
    error = (y - prediction.mean.numpy())[prediction.std[:, 0].argsort().numpy(), 0]
    for height, kept in zip(curve.y, curve.count, strict=True):
        assert height == pytest.approx(np.sqrt(np.mean(error[:kept] ** 2)), rel=1e-9)


def test_equal_uncertainties_refer_nobody_first() -> None:
    prediction, y = normal_prediction(n=100)
    constant = normal_like(prediction.mean, 0 * prediction.mean + 2.0)
    ax = Figure().add_subplot()
    display = SparsificationDisplay.from_predictions(y, constant, ax=ax, name="A")
    assert display.curve.x == (0.0,)
    assert set(np.asarray(display.line_.get_ydata())) == {display.curve.y[0]}


@pytest.mark.parametrize(
    ("heights", "end"),
    [((4.0, 0.0, 0.0, 0.0), 0.2), ((4.0, 2.0, 0.0, 0.0), 0.3), ((4.0, 3.0, 2.0, 0.0), 0.5),
     ((4.0, 5.0, 6.0, 7.0), 0.3)],
)  # fmt: skip
def test_the_curve_is_cropped_to_where_it_falls(heights: tuple[float, ...], end: float) -> None:
    assert shown_end(Curve("A", (0.0, 0.15, 0.25, 0.45), heights)) == end


def test_ten_percent_are_marked() -> None:
    prediction, y = class_prediction(n=400)
    ax = Figure().add_subplot()
    SparsificationDisplay.from_predictions(y, prediction, ax=ax)
    assert [10.0, 10.0] in [list(np.asarray(line.get_xdata())) for line in ax.lines]
