"""Beta calibration: known maps found again, against a general optimizer, limits by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

import mcdrop
from mcdrop.recalibration import BetaScaling
from tests.recalibration.cases import (
    assert_splits_add_up,
    averaged,
    drawn_labels,
    from_passes,
    normal,
    softmax,
)

RNG = np.random.default_rng(0)


def binary(positive: np.ndarray) -> mcdrop.ClassificationPrediction:
    return averaged(np.stack([1 - positive, positive], axis=1))


def test_parameters_are_those_of_a_general_optimizer() -> None:
    positive = RNG.uniform(0.02, 0.98, 300)
    y = (RNG.uniform(size=300) < positive**1.7).astype(int)
    features = np.stack([np.log(positive), -np.log1p(-positive), np.ones(300)], axis=1)

    def loss(parameters: np.ndarray) -> float:
        logit = features @ parameters
        return float(np.mean(np.logaddexp(0, logit) - y * logit))

    best = optimize.minimize(loss, [1.0, 1.0, 0.0], method="Nelder-Mead", tol=1e-10)
    found = BetaScaling().fit(binary(positive), y)
    assert loss(found.parameters[1].numpy()) <= best.fun + 1e-9
    np.testing.assert_allclose(found.parameters[1], best.x, atol=1e-3)


@given(st.integers(0, 10**6))
def test_two_classes_mirror_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.uniform(0.01, 0.99, 60)
    y = (rng.uniform(size=60) < 0.3 + 0.4 * positive).astype(int)
    fitted = BetaScaling().fit(binary(positive), y)
    a, b, m = fitted.parameters[1]
    mirror = torch.stack([b, a, -m])
    torch.testing.assert_close(fitted.parameters[0], mirror, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("a", "b", "m"), [(1.0, 1.0, 0.0), (2.0, 0.5, 0.3), (0.4, 1.5, -1.0)])
def test_a_map_of_the_family_is_found_again(a: float, b: float, m: float) -> None:
    rng = np.random.default_rng(1)
    n = 40_000
    positive = rng.uniform(size=n)
    truth = special.expit(a * np.log(positive) - b * np.log1p(-positive) + m)
    y = (rng.uniform(size=n) < truth).astype(int)
    scaled = BetaScaling().fit(binary(positive), y)(binary(positive))
    np.testing.assert_allclose(scaled.probs[:, 1], truth, atol=0.02)


def test_a_slope_is_never_negative() -> None:
    # Small probabilities are right more often than large ones: an increasing map can only be flat.
    p = binary(np.repeat([0.2, 0.8], 50))
    y = np.concatenate([np.tile([0, 1, 1, 1, 1], 10), np.tile([1, 0, 0, 0, 0], 10)])
    fitted = BetaScaling().fit(p, y)
    assert bool((fitted.parameters[:, :2] >= 0).all())
    np.testing.assert_allclose(fitted(p).probs[:, 1], 0.5, atol=1e-6)


def test_certain_probabilities_stay_finite() -> None:
    p = averaged([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 5 + [[0.5, 0.5]] * 2)
    scaled = BetaScaling().fit(p, [0] * 4 + [1] * 5 + [0] + [0, 1])(p)
    assert bool((scaled.probs > 0).all())
    assert bool(torch.isfinite(scaled.log_prob([1] * 12)).all())


def test_the_shares_of_the_passes_are_kept() -> None:
    p = from_passes(softmax(RNG.normal(size=(6, 80, 3))))
    scaled = BetaScaling().fit(p, drawn_labels(p.probs.numpy(), RNG))(p)
    assert scaled.samples is None
    assert_splits_add_up(scaled)
    shares = scaled.expected_entropy / scaled.predictive_entropy
    torch.testing.assert_close(shares, p.expected_entropy / p.predictive_entropy)
    torch.testing.assert_close(scaled.probs.sum(dim=1), torch.ones(80).double())


def test_errors_say_what_to_do() -> None:
    p = averaged(RNG.dirichlet(np.ones(3), 6))
    with pytest.raises(mcdrop.RangeError, match="BetaScaling.fit: .* no row of class 2"):
        BetaScaling().fit(p, [0, 1, 0, 1, 0, 1])
    sure = averaged([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 3)
    with pytest.raises(mcdrop.RangeError, match="grows without end.*some of them misclassified"):
        BetaScaling().fit(sure, [0, 0, 0, 1, 1, 1])
    with pytest.raises(mcdrop.UnsupportedError, match="BetaScaling: expected `self` to be fitted"):
        BetaScaling()(p)
    with pytest.raises(mcdrop.UnsupportedError, match=r"BetaScaling\.parameters: expected `self`"):
        BetaScaling().parameters  # noqa: B018
    with pytest.raises(mcdrop.UnsupportedError, match="Use a recalibration made for the task"):
        BetaScaling().fit(normal([0.0], 1), [0])  # type: ignore[arg-type]
    fitted = BetaScaling().fit(averaged([[0.9, 0.1]] * 4), [0, 0, 0, 1])
    with pytest.raises(mcdrop.ShapeError, match="have 2 classes, as in the fit, but got 3"):
        fitted(p)
