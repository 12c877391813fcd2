"""Isotonic maps of class probabilities: by hand, against scikit-learn, what each part becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

import mcdrop
from mcdrop.recalibration import IsotonicRecalibration
from tests.recalibration.cases import (
    assert_splits_add_up,
    averaged,
    drawn_labels,
    from_passes,
    normal,
    softmax,
)

RNG = np.random.default_rng(0)


def two_classes(positive: list[float]) -> mcdrop.ClassificationPrediction:
    return averaged([[1 - p, p] for p in positive])


def plain_map(probs: Any, hit: Any) -> IsotonicRegression:
    """scikit-learn's map of the rows and a hit at the smallest, a miss at the largest p."""
    rows = np.concatenate([probs, [np.min(probs), np.max(probs)]])
    return IsotonicRegression(out_of_bounds="clip").fit(rows, np.concatenate([hit, [1, 0]]))


def test_pooled_neighbors_by_hand() -> None:
    # P(1) = 0.1, 0.2, 0.5, 0.6, 0.8, 0.9 with labels 0, 0, 1, 0, 1, 1, and 1 at 0.1, 0 at 0.9:
    # 0.1 and 0.2 hold 1 of 3, the middle two violate the order and hold 1 of 2, the last 2 of 3.
    p = two_classes([0.1, 0.2, 0.5, 0.6, 0.8, 0.9])
    mapped = IsotonicRecalibration().fit(p, [0, 0, 1, 0, 1, 1])
    expected = [1 / 3, 1 / 3, 1 / 2, 1 / 2, 2 / 3, 2 / 3]
    np.testing.assert_allclose(mapped(p).probs[:, 1], expected)
    # Between points linear, beyond them constant: 0.35 is half way from 1/3 to 1/2.
    found = mapped(two_classes([0.0, 0.35, 1.0])).probs[:, 1]
    np.testing.assert_allclose(found, [1 / 3, 5 / 12, 2 / 3])


@pytest.mark.parametrize("n", [1, 10, 1000])
def test_a_run_of_misses_says_one_in_n_plus_one(n: int) -> None:
    p = two_classes([*np.linspace(0.1, 0.4, n), 0.9, 0.95])
    mapped = IsotonicRecalibration().fit(p, [0] * n + [1, 1])
    assert mapped(p[0]).probs[0, 1].item() == pytest.approx(1 / (n + 1))
    assert mapped(two_classes([0.0])).probs[0, 1].item() == pytest.approx(1 / (n + 1))


@given(st.integers(0, 10**6), st.integers(5, 60))
def test_two_classes_are_the_binary_map(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.uniform(size=n).round(2)
    y = np.concatenate([[0, 1], rng.integers(0, 2, n - 2)])
    p = two_classes(positive.tolist())
    found = IsotonicRecalibration().fit(p, y)(p).probs
    np.testing.assert_allclose(found[:, 1], plain_map(positive, y).predict(positive), atol=1e-9)
    np.testing.assert_allclose(found.sum(dim=1), 1)


def test_one_against_the_rest_then_normalized() -> None:
    probs = RNG.dirichlet(np.ones(3), 50)
    y = drawn_labels(probs, RNG)
    found = IsotonicRecalibration().fit(averaged(probs), y)(averaged(probs)).probs.numpy()
    raw = np.stack([plain_map(probs[:, c], y == c).predict(probs[:, c]) for c in range(3)])
    np.testing.assert_allclose(found, (raw / raw.sum(axis=0)).T, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 4))
def test_no_probability_is_zero_so_every_log_likelihood_is_finite(seed: int, c: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(c) * 0.3, 20)
    y = np.concatenate([np.arange(c), rng.integers(0, c, 20 - c)])
    new = averaged(np.concatenate([rng.dirichlet(np.ones(c) * 0.1, 20), np.eye(c)]))
    scaled = IsotonicRecalibration().fit(averaged(probs), y)(new)
    assert bool((scaled.probs > 0).all())
    assert bool(torch.isfinite(scaled.log_prob(rng.integers(0, c, len(new)))).all())


def test_calibrated_probabilities_lose_little_and_less_than_the_plain_map() -> None:
    rng = np.random.default_rng(2)
    loss = []
    for _ in range(40):
        truth = rng.beta(0.7, 0.7, size=2000)
        y = (rng.uniform(size=2000) < truth).astype(int)
        fit, new = two_classes(truth[:200].tolist()), two_classes(truth[200:].tolist())
        scaled = IsotonicRecalibration().fit(fit, y[:200])(new)
        plain = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(truth[:200], y[:200])
        before = plain.predict(truth[200:])
        nll = -(scaled.log_prob(y[200:]).mean() - new.log_prob(y[200:]).mean()).item()
        brier = np.mean((scaled.probs[:, 1].numpy() - y[200:]) ** 2)
        loss.append([nll, brier - np.mean((before - y[200:]) ** 2)])
    nll, brier = np.mean(loss, axis=0)
    # Isotonic maps of 200 rows have some ten steps: each costs about 1 / (2 * 200) nats.
    assert nll < 0.04
    assert brier < 0


def test_a_known_distortion_is_undone_on_new_rows() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(size=(2, 4000))
    fit, new = (two_classes((t**3).tolist()) for t in truth)
    y = (rng.uniform(size=4000) < truth[0]).astype(int)
    error = np.abs(IsotonicRecalibration().fit(fit, y)(new).probs[:, 1].numpy() - truth[1])
    # Isotonic regression errs by about (p (1 - p) / N)^(1/3) = 0.04.
    assert error.mean() < 0.04 < np.abs(truth[1] ** 3 - truth[1]).mean() / 4


def test_the_shares_of_the_passes_are_kept() -> None:
    p = from_passes(softmax(RNG.normal(size=(6, 40, 3))))
    scaled = IsotonicRecalibration().fit(p, drawn_labels(p.probs.numpy(), RNG))(p)
    assert scaled.samples is None
    assert_splits_add_up(scaled)
    shares = scaled.expected_entropy / scaled.predictive_entropy
    torch.testing.assert_close(shares, p.expected_entropy / p.predictive_entropy)
    assert bool((scaled.probs_std.square() <= scaled.probs * (1 - scaled.probs) * 6 / 5).all())


def test_pixels_count_like_rows() -> None:
    probs = torch.from_numpy(RNG.dirichlet(np.ones(3), 24))
    y = drawn_labels(probs.numpy(), RNG)
    flat = averaged(probs)
    image = mcdrop.ClassificationPrediction(
        probs=flat.probs.reshape(4, 6, 3).movedim(2, 1),
        probs_std=torch.zeros(4, 3, 6),
        expected_entropy=flat.expected_entropy.reshape(4, 6),
        variation_ratio=torch.zeros(4, 6),
        mcse=torch.zeros(4, 3, 6),
        n_samples=0,
    )
    found = IsotonicRecalibration().fit(image, y.reshape(4, 6))(image)
    want = IsotonicRecalibration().fit(flat, y)(flat)
    torch.testing.assert_close(found.probs.movedim(1, -1).reshape(24, 3), want.probs)


def test_errors_say_what_to_do() -> None:
    p = averaged(RNG.dirichlet(np.ones(3), 4))
    with pytest.raises(mcdrop.RangeError, match="no row of class 1, 2. .*or use TemperatureScal"):
        IsotonicRecalibration().fit(p, [0, 0, 0, 0])
    with pytest.raises(mcdrop.UnsupportedError, match="IsotonicRecalibration: expected `self`"):
        IsotonicRecalibration()(p)
    with pytest.raises(mcdrop.UnsupportedError, match="Use a recalibration made for the task"):
        IsotonicRecalibration().fit(normal([0.0], 1), [0])  # type: ignore[arg-type]
    with pytest.raises(mcdrop.ShapeError, match="to match `prediction`"):
        IsotonicRecalibration().fit(p, [0, 1])
    mapped = IsotonicRecalibration().fit(p, [0, 1, 2, 0])
    with pytest.raises(mcdrop.ShapeError, match="have 3 classes, as in the fit, but got 2"):
        mapped(two_classes([0.5]))
