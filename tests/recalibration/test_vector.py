"""Vector scaling: known parameters found again, the law of its optimum, limits by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mcdrop
from mcdrop.recalibration import TemperatureScaling, VectorScaling
from tests.recalibration.cases import (
    assert_splits_add_up,
    averaged,
    drawn_labels,
    from_passes,
    normal,
    softmax,
)

RNG = np.random.default_rng(0)


def test_parameters_are_found_again() -> None:
    rng = np.random.default_rng(1)
    factors, shifts = np.array([0.5, 1.0, 2.0]), np.array([0.4, 0.1, -0.5])
    probs = rng.dirichlet(np.ones(3), 40_000)
    truth = softmax(factors * np.log(probs) + shifts)
    fitted = VectorScaling().fit(averaged(probs), drawn_labels(truth, rng))
    np.testing.assert_allclose(fitted.factors, factors, atol=0.06)
    np.testing.assert_allclose(fitted.shifts, shifts, atol=0.06)
    np.testing.assert_allclose(fitted(averaged(probs)).probs, truth, atol=0.02)


@given(st.integers(0, 10**6), st.integers(2, 4))
def test_at_the_optimum_classes_come_as_often_as_said(seed: int, c: int) -> None:
    # The derivatives by b_c and w_c vanish: the mean of p'_c is the share of class c, and the mean
    # of p'_c log p_c that of 1[y = c] log p_c.
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(c), 80)
    y = np.concatenate([np.arange(c), rng.integers(0, c, 80 - c)])
    scaled = VectorScaling().fit(averaged(probs), y)(averaged(probs)).probs.numpy()
    hit = np.eye(c)[y]
    np.testing.assert_allclose(scaled.mean(axis=0), hit.mean(axis=0), atol=1e-5)
    found, expected = ((each * np.log(probs)).mean(axis=0) for each in (scaled, hit))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(st.integers(0, 10**6))
def test_fitted_rows_are_at_least_as_likely_as_with_one_temperature(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.ones(3), 60)
    p, y = averaged(softmax(1.7 * np.log(truth))), drawn_labels(truth, rng)
    y[:3] = [0, 1, 2]
    single, each = TemperatureScaling().fit(p, y)(p), VectorScaling().fit(p, y)(p)
    assert each.log_prob(y).mean() >= single.log_prob(y).mean() - 1e-7


def test_pixels_count_like_rows() -> None:
    probs = torch.from_numpy(RNG.dirichlet(np.ones(3), 24))
    y = np.concatenate([np.arange(3), RNG.integers(0, 3, 21)])
    flat = averaged(probs)
    image = mcdrop.ClassificationPrediction(
        probs=flat.probs.reshape(4, 6, 3).movedim(2, 1),
        probs_std=torch.zeros(4, 3, 6),
        expected_entropy=flat.expected_entropy.reshape(4, 6),
        variation_ratio=torch.zeros(4, 6),
        mcse=torch.zeros(4, 3, 6),
        n_samples=0,
    )
    found = VectorScaling().fit(image, y.reshape(4, 6))(image)
    want = VectorScaling().fit(flat, y)(flat)
    torch.testing.assert_close(found.probs.movedim(1, -1).reshape(24, 3), want.probs)


def test_the_shares_of_the_passes_are_kept() -> None:
    p = from_passes(softmax(RNG.normal(size=(6, 80, 3))))
    scaled = VectorScaling().fit(p, drawn_labels(p.probs.numpy(), RNG))(p)
    assert scaled.samples is None
    assert_splits_add_up(scaled)
    shares = scaled.expected_entropy / scaled.predictive_entropy
    torch.testing.assert_close(shares, p.expected_entropy / p.predictive_entropy)


def test_impossible_classes_stay_all_but_impossible() -> None:
    p = averaged([[0.6, 0.4, 0.0]] * 4 + [[0.1, 0.2, 0.7]] * 4)
    scaled = VectorScaling().fit(p, [0, 0, 1, 0, 2, 2, 1, 0])(p)
    assert bool(torch.isfinite(scaled.probs).all())
    assert scaled.probs[0, 2] < 1e-3


def test_errors_say_what_to_do() -> None:
    p = averaged(RNG.dirichlet(np.ones(3), 6))
    with pytest.raises(mcdrop.RangeError, match="VectorScaling.fit: .* no row of class 2"):
        VectorScaling().fit(p, [0, 1, 0, 1, 0, 1])
    sure = averaged([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 3)
    with pytest.raises(mcdrop.RangeError, match="grows without end.*some of them misclassified"):
        VectorScaling().fit(sure, [0, 0, 0, 1, 1, 1])
    for call in (lambda: VectorScaling()(p), lambda: VectorScaling().factors):
        with pytest.raises(mcdrop.UnsupportedError, match="expected `self` to be fitted"):
            call()
    with pytest.raises(mcdrop.UnsupportedError, match="Use a recalibration made for the task"):
        VectorScaling().fit(normal([0.0], 1), [0])  # type: ignore[arg-type]
    fitted = VectorScaling().fit(averaged([[0.9, 0.1]] * 4), [0, 0, 0, 1])
    with pytest.raises(mcdrop.ShapeError, match="have 2 classes, as in the fit, but got 3"):
        fitted(p)
