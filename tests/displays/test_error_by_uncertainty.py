from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from mcdrop.displays import ErrorByUncertaintyDisplay
from tests.report.made import class_prediction, normal_like, normal_prediction


def test_groups_are_placed_by_rank_and_average_to_the_error_rate() -> None:
    prediction, y = class_prediction(n=400)
    curve = ErrorByUncertaintyDisplay.from_predictions(
        y, prediction, ax=Figure().add_subplot()
    ).curve
    assert curve.x == pytest.approx(np.linspace(0.05, 0.95, 10))
    wrong = (prediction.labels != y).double().mean().item()
    assert np.mean(curve.y) == pytest.approx(wrong, rel=1e-12)
    assert np.mean(curve.stated) == pytest.approx(1 - prediction.confidence.mean().item())
    assert curve.unit == "share"


def test_the_rmse_of_groups_is_that_of_their_rows() -> None:
    prediction, y = normal_prediction(n=100)
    curve = ErrorByUncertaintyDisplay.from_predictions(
        y, prediction, ax=Figure().add_subplot()
    ).curve
    order = prediction.std[:, 0].argsort().numpy()[:20]
    error = (y - prediction.mean.numpy())[order, 0]
    assert curve.count == (20,) * 5
    assert curve.y[0] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    assert curve.stated[0] == pytest.approx(
        np.sqrt(prediction.variance.numpy()[order].mean()), rel=1e-12
    )
    assert curve.unit == "units of y"


def test_calibrated_groups_hold_what_they_state() -> None:
    prediction, y = normal_prediction(n=3000)
    curve = ErrorByUncertaintyDisplay.from_predictions(
        y, prediction, ax=Figure().add_subplot(), level=0.999
    ).curve
    for low, stated, high in zip(curve.low, curve.stated, curve.high, strict=True):
        assert low <= stated <= high


def test_a_constant_uncertainty_is_one_point_in_the_middle() -> None:
    prediction, y = normal_prediction(n=100)
    constant = normal_like(prediction.mean, 0 * prediction.mean + 2.0)
    curve = ErrorByUncertaintyDisplay.from_predictions(y, constant, ax=Figure().add_subplot()).curve
    assert curve.x == (0.5,)
