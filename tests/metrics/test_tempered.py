"""Calibrated log-likelihood: temperatures from other rows, checked against a direct search."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from mcdrop.errors import RangeError, ShapeError
from mcdrop.metrics import calibrated_nll, nll_categorical

RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.ones(3), 400)
Y = (RNG.uniform(size=(400, 1)) > PROBS.cumsum(axis=1)).sum(axis=1)


def _tempered(probs: np.ndarray, temperature: float) -> np.ndarray:
    powers = probs ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def test_one_split_by_a_direct_search() -> None:
    order = np.random.default_rng(3).permutation(400)
    halves = order[:200], order[200:]
    want = np.zeros(400)
    for fit, score in (halves, halves[::-1]):

        def loss(t: float, rows: np.ndarray = fit) -> float:
            return float(np.mean(nll_categorical(_tempered(PROBS[rows], t), Y[rows])))

        best = optimize.minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x
        want[score] = nll_categorical(_tempered(PROBS[score], best), Y[score])
    np.testing.assert_allclose(calibrated_nll(PROBS, Y, n_splits=1, seed=3), want, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_temperature_of_the_model_does_not_matter(temperature: float) -> None:
    moved = _tempered(PROBS, temperature)
    np.testing.assert_allclose(calibrated_nll(moved, Y), calibrated_nll(PROBS, Y), atol=1e-5)


def test_calibrated_model_pays_little_for_the_fit() -> None:
    plain, fitted = np.mean(nll_categorical(PROBS, Y)), np.mean(calibrated_nll(PROBS, Y))
    # A fitted parameter costs about 1 / (2 N) nats on each half.
    assert plain - 0.005 < fitted < plain + 0.01


def test_impossible_labels_stay_impossible_and_the_others_finite() -> None:
    probs, y = PROBS.copy(), Y.copy()
    probs[0], y[0] = [1.0, 0.0, 0.0], 1
    found = np.asarray(calibrated_nll(probs, y))
    assert np.isinf(found[0])
    assert np.isfinite(found[1:]).all()
    assert np.isinf(calibrated_nll([[1.0, 0.0]] * 4, [1] * 4)).all()


def test_seed_decides_the_splits_alone() -> None:
    one = np.asarray(calibrated_nll(PROBS, Y, seed=1))
    np.testing.assert_array_equal(one, calibrated_nll(PROBS, Y, seed=1))
    assert (one != np.asarray(calibrated_nll(PROBS, Y, seed=2))).any()


def test_calls_that_cannot_be_are_named() -> None:
    with pytest.raises(ShapeError, match="calibrated_nll: expected `y` to hold at least 4 rows"):
        calibrated_nll(PROBS[:3], Y[:3])
    with pytest.raises(RangeError, match="`n_splits` to be an integer of at least 1"):
        calibrated_nll(PROBS, Y, n_splits=0)
