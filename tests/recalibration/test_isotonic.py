"""Isotonic maps of class probabilities: by hand, against scikit-learn, what each part becomes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

import mcdrop
from mcdrop.metrics import brier_score
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


def test_pooled_neighbors_by_hand() -> None:
    # P(1) = 0.1, 0.3, 0.5, 0.8 with labels 0, 1, 0, 1: the middle two violate the order and share
    # their mean 1/2; the outer two keep 0 and 1.
    p = two_classes([0.1, 0.3, 0.5, 0.8])
    mapped = IsotonicRecalibration().fit(p, [0, 1, 0, 1])
    np.testing.assert_allclose(mapped(p).probs[:, 1], [0, 0.5, 0.5, 1])
    # Between points linear, beyond them constant: 0.2 is half way from 0 to 1/2.
    np.testing.assert_allclose(mapped(two_classes([0.0, 0.2, 0.9])).probs[:, 1], [0, 0.25, 1])


def test_calibrated_frequencies_are_left_alone() -> None:
    p = averaged([[0.75, 0.25]] * 4 + [[0.5, 0.5]] * 2 + [[0.0, 1.0]] * 2)
    scaled = IsotonicRecalibration().fit(p, [0, 0, 0, 1, 0, 1, 1, 1])(p)
    torch.testing.assert_close(scaled.probs, p.probs)
    torch.testing.assert_close(scaled.expected_entropy, p.expected_entropy)


@given(st.integers(0, 10**6), st.integers(5, 60))
def test_two_classes_are_the_binary_map(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.uniform(size=n).round(2)
    y = np.concatenate([[0, 1], rng.integers(0, 2, n - 2)])
    p = two_classes(positive.tolist())
    found = IsotonicRecalibration().fit(p, y)(p).probs
    want = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(positive, y)
    np.testing.assert_allclose(found[:, 1], want.predict(positive), atol=1e-9)
    np.testing.assert_allclose(found.sum(dim=1), 1)


def test_one_against_the_rest_then_normalized() -> None:
    probs = RNG.dirichlet(np.ones(3), 50)
    y = drawn_labels(probs, RNG)
    found = IsotonicRecalibration().fit(averaged(probs), y)(averaged(probs)).probs.numpy()
    raw = np.stack(
        [
            IsotonicRegression(out_of_bounds="clip").fit_transform(probs[:, c], y == c)
            for c in range(3)
        ]
    )
    np.testing.assert_allclose(found, (raw / raw.sum(axis=0)).T, atol=1e-12)


def test_rows_where_every_class_is_refused_share_alike() -> None:
    p = averaged([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    mapped = IsotonicRecalibration().fit(p, [0, 1, 2])
    unsure = mapped(averaged([[0.1, 0.1, 0.1]]))  # each map is 0 up to 0.1
    np.testing.assert_allclose(unsure.probs, [[1 / 3] * 3])


@given(st.integers(0, 10**6))
def test_brier_score_of_the_fitted_rows_never_grows_for_two_classes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = two_classes(rng.uniform(size=20).tolist())
    y = np.concatenate([[0, 1], rng.integers(0, 2, 18)])
    scaled = IsotonicRecalibration().fit(p, y)(p)
    after, before = (np.mean(np.asarray(brier_score(q.probs, y))) for q in (scaled, p))
    assert after <= before + 1e-12


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
    sure = scaled.predictive_entropy == 0
    shares = (scaled.expected_entropy / scaled.predictive_entropy)[~sure]
    torch.testing.assert_close(shares, (p.expected_entropy / p.predictive_entropy)[~sure])
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
