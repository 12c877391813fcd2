from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from mcdrop.displays._draws import Draws
from mcdrop.displays._matching import matched_regression
from mcdrop.displays._regression import Regression
from tests.report.made import normal_prediction, passes_prediction


def judged(prediction: object, y: object) -> Regression:
    return matched_regression({"A": prediction}, y, Draws(0.95, 10, 0))["A"]  # type: ignore[dict-item]


def test_normal_scores_are_standardized_errors_and_errors_average_outputs() -> None:
    prediction, y = normal_prediction(n=40, d=2)
    r = judged(prediction, y)
    error = y - prediction.mean.numpy()
    assert r.scores == pytest.approx(error / prediction.std.numpy())
    assert r.row_errors == pytest.approx(np.sqrt((error**2).mean(axis=1)))
    assert r.uncertainty == pytest.approx(prediction.std.numpy().mean(axis=1))


def test_scores_of_a_mixture_are_those_of_its_distribution_function() -> None:
    prediction, y = passes_prediction(n=40, n_samples=9)
    r = judged(prediction, y)
    assert prediction.samples is not None
    place = np.asarray(norm.cdf(y.numpy(), prediction.samples.numpy(), 1.0)).mean(axis=0)
    assert r.scores is not None
    assert norm.cdf(r.scores) == pytest.approx(place, rel=1e-9)


def test_a_target_is_inside_by_its_pit_as_by_its_interval() -> None:
    prediction, y = passes_prediction(n=60, n_samples=9)
    r = judged(prediction, y)
    low, high = prediction.interval(0.8)
    inside = r.inside(0.8)
    assert inside is not None
    assert bool((inside == ((low <= y) & (y <= high))).all())


def test_what_has_no_density_has_no_pit() -> None:
    prediction, y = passes_prediction(noise=0.0)
    r = judged(prediction, y)
    assert r.pit is None
    assert r.pit_or_rank is not None
    assert not r.has_noise
