"""The size of a deep ensemble that scores like a method."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mcdrop import ClassificationPrediction, RegressionPrediction
from mcdrop.comparison import EnsembleEquivalent, deep_ensemble_equivalent
from mcdrop.comparison.equivalent import losses_by_size
from mcdrop.errors import NonFiniteError, ShapeError

CURVE = [4.0, 2.0, 1.5, 1.4]


@pytest.mark.parametrize(
    ("score", "size"),
    [(4.0, 1.0), (3.0, 1.5), (2.0, 2.0), (1.75, 2.5), (1.4, 4.0), (4.1, 0.0), (1.3, math.inf)],
)
def test_the_size_is_interpolated(score: float, size: float) -> None:
    assert deep_ensemble_equivalent(score, CURVE) == pytest.approx(size)


def test_a_larger_ensemble_that_is_worse_counts_as_equal() -> None:
    assert deep_ensemble_equivalent(1.0, [2.0, 1.5, 1.7, 1.0]) == 4.0
    # The running minimum stays at 1.5 up to size 3.
    assert deep_ensemble_equivalent(1.25, [2.0, 1.5, 1.7, 1.0]) == 3.5


def test_mistakes_are_named() -> None:
    with pytest.raises(ShapeError, match="`scores_by_size` to hold at least one row"):
        deep_ensemble_equivalent(1.0, [])
    with pytest.raises(NonFiniteError, match="`score` to hold finite numbers"):
        deep_ensemble_equivalent(math.nan, CURVE)


def test_it_is_written_with_its_range() -> None:
    assert str(EnsembleEquivalent(2.34, 1, 3, 5)) == "2.3 [1, 3]"
    assert str(EnsembleEquivalent(math.inf, 4, 5, 5)) == "more than 5 [4, 5+]"
    assert str(EnsembleEquivalent(0.0, math.nan, math.nan, 5)) == "less than 1"


def test_sizes_are_scored_by_their_sub_ensembles() -> None:
    members = np.array([[0.0], [1.0], [3.0]])
    p = RegressionPrediction.from_samples(members, noise_std=1.0)
    losses = losses_by_size(p, [0.0], "nll")
    assert losses is not None
    densities = np.exp(-0.5 * members[:, 0] ** 2) / np.sqrt(2 * np.pi)
    pairs = [(0, 1), (1, 2), (2, 0)]
    expected = [
        -np.log(densities).mean(),
        np.mean([-np.log(densities[list(pair)].mean()) for pair in pairs]),
        -np.log(densities.mean()),
    ]
    np.testing.assert_allclose([float(x) for x in losses], expected, rtol=1e-12)


def test_classes_and_own_noise_work_too() -> None:
    probs = torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]])
    losses = losses_by_size(ClassificationPrediction.from_samples(probs), [0], "nll")
    assert losses is not None
    expected = [-(np.log(0.5) + np.log(0.9)) / 2, -np.log(0.7)]
    np.testing.assert_allclose([float(x) for x in losses], expected, rtol=1e-6)
    own = RegressionPrediction.from_samples([[0.0], [1.0]], noise_std=[[1.0], [2.0]])
    losses = losses_by_size(own, [0.0], "nll")
    assert losses is not None
    single = [np.log(1) + 0, np.log(2) + 0.5 / 4]
    np.testing.assert_allclose(float(losses[0]), np.mean(single) + 0.5 * np.log(2 * np.pi))


def test_without_members_or_density_there_is_no_curve() -> None:
    assert losses_by_size(RegressionPrediction.from_point([0.0]), [0.0], "nll") is None
    draws = RegressionPrediction.from_samples([[0.0], [1.0]])
    assert losses_by_size(draws, [0.0], "nll") is None
