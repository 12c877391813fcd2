from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import binom

from mcdrop.displays import ReliabilityDisplay
from mcdrop.displays._classification import Classification
from mcdrop.displays._draws import Draws
from mcdrop.displays._matching import matched_classification
from mcdrop.prediction import ClassificationPrediction
from tests.report.made import certain, class_prediction


def test_groups_hold_equally_many_rows_and_average_to_the_accuracy() -> None:
    prediction, y = class_prediction(n=200)
    ax = Figure().add_subplot()
    curve = ReliabilityDisplay.from_predictions(y, prediction, ax=ax).curve
    assert curve.count == (20,) * 10
    right = (prediction.labels == y).double()
    assert np.mean(curve.y) == pytest.approx(right.mean().item(), rel=1e-12)
    order = prediction.confidence.argsort()
    assert curve.x[0] == pytest.approx(prediction.confidence[order[:20]].mean().item())
    assert curve.y[0] == right[order[:20]].mean().item()
    assert "10 groups of 20 rows" in [text.get_text() for text in ax.texts]


def test_the_range_of_equal_confidences_is_binomial() -> None:
    probs = torch.tensor([[0.7, 0.3]] * 100, dtype=torch.float64)
    curve = ReliabilityDisplay.from_predictions(
        [0] * 70 + [1] * 30, certain(probs), ax=Figure().add_subplot()
    ).curve
    assert curve.count == (100,)
    exact = binom.interval(0.95, 100, 0.7)
    # 999 drawings find the quantiles of a count to about one.
    assert 100 * curve.calibrated_low[0] == pytest.approx(exact[0], abs=1.5)
    assert 100 * curve.calibrated_high[0] == pytest.approx(exact[1], abs=1.5)


def test_calibrated_points_lie_in_their_range_as_often_as_said() -> None:
    inside, total = 0, 0
    for seed in range(60):
        prediction, y = class_prediction(n=100, seed=seed)
        curve = ReliabilityDisplay.points("A", _judged(prediction, y))
        assert curve is not None
        for low, share, high in zip(
            curve.calibrated_low, curve.y, curve.calibrated_high, strict=True
        ):
            inside += low <= share <= high
            total += 1
    # At least 95 %, as counts are discrete, less three standard errors.
    assert inside / total >= 0.95 - 3 * (0.05 * 0.95 / total) ** 0.5


def _judged(prediction: ClassificationPrediction, y: torch.Tensor) -> Classification:
    return matched_classification({"A": prediction}, y, Draws(0.95, 10, 0))["A"]


def test_points_are_not_joined() -> None:
    prediction, y = class_prediction()
    ax = Figure().add_subplot()
    display = ReliabilityDisplay.from_predictions(y, prediction, ax=ax)
    assert display.line_.get_linestyle() == "None"
