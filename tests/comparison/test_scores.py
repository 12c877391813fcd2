"""Scores of one split against the metrics they are made of."""

from __future__ import annotations

import numpy as np
import pytest

from mcdrop import ClassificationPrediction, RegressionPrediction, metrics
from mcdrop.comparison.scores import MEASURES, split_scores

RNG = np.random.default_rng(0)
Y = RNG.normal(size=30)
MEAN, STD = RNG.normal(size=30), RNG.uniform(0.5, 2, size=30)


def test_a_normal_is_scored_by_every_measure() -> None:
    found = split_scores(RegressionPrediction.from_mean_std(MEAN, STD), Y)
    values = {key: score.value for key, score in found.items()}
    assert values["rmse"] == pytest.approx(metrics.rmse(MEAN, Y))
    assert values["nll"] == pytest.approx(metrics.nll_normal(MEAN, STD, Y).mean())
    assert values["crps"] == pytest.approx(metrics.crps_normal(MEAN, STD, Y).mean())
    ends = (MEAN - 1.6448536 * STD, MEAN + 1.6448536 * STD)
    assert values["coverage_90"] == pytest.approx(metrics.coverage(*ends, Y))
    assert values["width_90"] == pytest.approx(2 * 1.6448536 * STD.mean())
    assert found["rmse"].losses is not None
    np.testing.assert_allclose(found["rmse"].losses, (MEAN - Y) ** 2)


def test_a_mixture_is_scored_as_the_mixture() -> None:
    draws = RNG.normal(size=(9, 30))
    found = split_scores(RegressionPrediction.from_samples(draws, noise_std=0.7), Y)
    noise = np.full((9, 30), 0.7)
    assert found["nll"].value == pytest.approx(metrics.nll_mixture(draws, noise, Y).mean())
    assert found["crps"].value == pytest.approx(metrics.crps_mixture(draws, noise, Y).mean())


def test_what_is_not_stated_is_not_scored() -> None:
    point = split_scores(RegressionPrediction.from_point(MEAN), Y)
    assert set(point) == {"rmse", "crps"}
    # The CRPS of a point is the absolute error.
    assert point["crps"].value == pytest.approx(np.abs(MEAN - Y).mean())
    draws = RNG.normal(size=(9, 30))
    found = split_scores(RegressionPrediction.from_samples(draws), Y)
    assert "nll" not in found
    assert found["crps"].value == pytest.approx(metrics.crps_ensemble(draws, Y).mean())


def test_classes_are_scored_by_every_measure() -> None:
    probs, labels = RNG.dirichlet(np.ones(3), size=30), RNG.integers(0, 3, size=30)
    found = split_scores(ClassificationPrediction.from_probs(probs), labels)
    assert found["accuracy"].value == pytest.approx(metrics.accuracy(probs, labels))
    assert found["nll"].value == pytest.approx(metrics.nll_categorical(probs, labels).mean())
    assert found["brier"].value == pytest.approx(metrics.brier_score(probs, labels).mean())
    assert found["ece"].value == pytest.approx(metrics.expected_calibration_error(probs, labels))
    assert set(found) <= set(MEASURES)


def test_an_infinite_score_is_left_out() -> None:
    found = split_scores(ClassificationPrediction.from_probs([[1.0, 0.0]] * 5), [0, 0, 0, 0, 1])
    assert "nll" not in found
    assert found["brier"].value == pytest.approx(2 / 5)


def test_several_outputs_are_averaged() -> None:
    mean, y = np.stack([MEAN, MEAN], axis=1), np.stack([Y, Y + 1], axis=1)
    found = split_scores(RegressionPrediction.from_mean_std(mean, 1.0), y)
    assert found["rmse"].value == pytest.approx(metrics.rmse(mean, y))
    assert found["nll"].value == pytest.approx(metrics.nll_normal(mean, np.ones((30, 2)), y).mean())
