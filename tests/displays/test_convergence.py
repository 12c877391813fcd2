from __future__ import annotations

import pytest

from mcdrop.displays._convergence import ConvergenceDisplay
from mcdrop.displays._draws import Draws
from mcdrop.displays._matching import matched_regression
from tests.report.made import passes_prediction


def test_it_scores_the_mean_of_the_first_passes_and_ends_at_all_of_them() -> None:
    prediction, y = passes_prediction(n=40, n_samples=20)
    judged = matched_regression({"A": prediction}, y, Draws(0.95, 20, 0))["A"]
    curve = ConvergenceDisplay.points("A", judged)
    assert curve is not None
    assert curve.x == (2.0, 4.0, 8.0, 16.0, 20.0)
    assert prediction.samples is not None
    for s, score in zip(curve.x, curve.y, strict=True):
        mean = prediction.samples[: int(s)].mean(dim=0)
        assert score == pytest.approx((mean - y).square().mean().sqrt().item(), rel=1e-9)


def test_without_samples_there_is_nothing_to_draw() -> None:
    prediction, y = passes_prediction(n=40, keep=False)
    judged = matched_regression({"A": prediction}, y, Draws(0.95, 20, 0))["A"]
    assert ConvergenceDisplay.points("A", judged) is None
