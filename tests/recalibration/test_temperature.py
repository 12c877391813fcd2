"""Temperature scaling: optima by hand, recovery of a known temperature, what parts become."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mcdrop
from mcdrop.metrics import nll_categorical
from mcdrop.recalibration import TemperatureScaling
from tests.recalibration.cases import (
    assert_splits_add_up,
    averaged,
    drawn_labels,
    entropies,
    from_passes,
    normal,
    softmax,
)

RNG = np.random.default_rng(0)
PASSES = softmax(RNG.normal(size=(6, 40, 3)) * 2)
SOFTER = drawn_labels(softmax(np.log(PASSES) / 3).mean(axis=0), np.random.default_rng(3))
Kind = Literal["mean", "passes"]


def fitted(right: int, wrong: int) -> TemperatureScaling:
    """Fit on rows of probability 0.9 that are right `right` times.

    The likelihood of two classes is highest where 9^(1/T) / (1 + 9^(1/T)) = right / rows, so
    T = log 9 / log(right / wrong).
    """
    labels = [0] * right + [1] * wrong
    return TemperatureScaling().fit(averaged([[0.9, 0.1]] * len(labels)), labels)


@pytest.mark.parametrize(("right", "wrong"), [(3, 1), (9, 1), (27, 1), (11, 10)])
def test_temperature_of_two_classes_by_hand(right: int, wrong: int) -> None:
    expected = math.log(9) / math.log(right / wrong)
    assert fitted(right, wrong).temperature == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("known", [0.4, 1.0, 2.5])
def test_known_temperature_of_the_mean_is_recovered(known: float) -> None:
    rng = np.random.default_rng(1)
    truth = softmax(rng.normal(size=(4000, 5)))
    stated = softmax(np.log(truth) * known)
    found = TemperatureScaling().fit(averaged(stated), drawn_labels(truth, rng)).temperature
    # With b = 1/T the model is an exponential family in b: the information of a row is the
    # variance of log p under the true probabilities.
    log_p = np.log(stated)
    variance = (truth * log_p**2).sum(axis=1) - (truth * log_p).sum(axis=1) ** 2
    assert abs(1 / found - 1 / known) < 3 / math.sqrt(variance.sum())


@pytest.mark.parametrize("known", [0.4, 1.0, 2.5])
def test_known_temperature_of_the_passes_is_recovered(known: float) -> None:
    rng = np.random.default_rng(2)
    truth = softmax(rng.normal(size=(1, 4000, 3)) + rng.normal(size=(5, 4000, 3)))
    stated = softmax(np.log(truth) * known)
    y = drawn_labels(truth.mean(axis=0), rng)
    found = TemperatureScaling("passes").fit(from_passes(stated), y).temperature

    def scores(b: float) -> np.ndarray:
        return np.log(softmax(np.log(stated) * b).mean(axis=0)[np.arange(len(y)), y])

    # Outer-product estimate of the information in b = 1/T, by central differences.
    slope = (scores(1 / known + 1e-4) - scores(1 / known - 1e-4)) / 2e-4
    assert abs(1 / found - 1 / known) < 3 / math.sqrt((slope**2).sum())


def test_temperature_one_changes_nothing() -> None:
    one = fitted(9, 1)
    assert one.temperature == pytest.approx(1, abs=1e-7)
    p = from_passes(PASSES)
    for name, value in p.to_numpy().items():
        if name != "samples":
            np.testing.assert_allclose(one(p).to_numpy()[name], value, rtol=1e-6, atol=1e-9)


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_labels_are_those_of_the_mean_at_any_temperature(right: int, seed: int) -> None:
    # Rows right more often than wrong leave the optimum at a positive temperature.
    scaling = fitted(right + 1, right)
    p = averaged(np.random.default_rng(seed).dirichlet([0.5] * 4, 20))
    assert torch.equal(scaling(p).labels, p.labels)


def test_the_scaled_mean_is_the_power_of_the_mean() -> None:
    p = from_passes(PASSES)
    scaled = fitted(3, 1)(p)  # temperature 2
    roots = np.sqrt(PASSES.mean(axis=0))
    np.testing.assert_allclose(scaled.probs, roots / roots.sum(axis=1, keepdims=True), rtol=1e-6)


def test_scaling_the_mean_keeps_the_shares_of_the_passes() -> None:
    p = from_passes(PASSES)
    scaled = fitted(3, 1)(p)
    assert scaled.samples is None
    assert_splits_add_up(scaled)
    assert torch.equal(scaled.variation_ratio, p.variation_ratio)

    def shares(q: mcdrop.ClassificationPrediction) -> list[torch.Tensor]:
        total = q.probs * (1 - q.probs)
        return [
            q.expected_entropy / q.predictive_entropy,
            q.probs_std.square() / total,
            q.mcse.square() / total,
        ]

    for new, old in zip(shares(scaled), shares(p), strict=True):
        torch.testing.assert_close(new, old)


def test_every_field_follows_from_the_scaled_passes() -> None:
    p = from_passes(PASSES)
    scaling = TemperatureScaling("passes").fit(p, SOFTER)
    expected = from_passes(softmax(np.log(PASSES) / scaling.temperature)).to_numpy()
    scaled = scaling(p)
    found = scaled.to_numpy()
    for name in expected:
        value = found[name]
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12)
    assert_splits_add_up(scaled)
    assert scaled.n_samples == p.n_samples


def test_averaging_softens_so_sharpening_passes_takes_a_lower_temperature() -> None:
    rng = np.random.default_rng(4)
    samples = softmax(rng.normal(size=(1, 3000, 3)) + rng.normal(size=(10, 3000, 3)))
    p = from_passes(samples)
    y = drawn_labels(softmax(np.log(samples.mean(axis=0)) * 1.5), rng)
    on_mean = TemperatureScaling().fit(p, y).temperature
    assert on_mean == pytest.approx(1 / 1.5, rel=0.1)
    assert TemperatureScaling("passes").fit(p, y).temperature < 0.9 * on_mean


@pytest.mark.parametrize("kind", ["mean", "passes"])
def test_the_likelihood_of_the_fitted_rows_never_falls(kind: Kind) -> None:
    p = from_passes(PASSES)
    y = drawn_labels(softmax(np.log(PASSES.mean(axis=0)) * 0.3), np.random.default_rng(5))
    scaled = TemperatureScaling(kind).fit(p, y)(p)
    after, before = (
        float(torch.as_tensor(nll_categorical(q.probs, y)).mean()) for q in (scaled, p)
    )
    assert after < before


def test_pixels_count_like_rows() -> None:
    p = from_passes(PASSES)
    images = mcdrop.ClassificationPrediction(
        probs=p.probs.reshape(4, 10, 3).movedim(2, 1),
        probs_std=p.probs_std.reshape(4, 10, 3).movedim(2, 1),
        expected_entropy=p.expected_entropy.reshape(4, 10),
        variation_ratio=p.variation_ratio.reshape(4, 10),
        mcse=p.mcse.reshape(4, 10, 3).movedim(2, 1),
        n_samples=6,
    )
    y = drawn_labels(p.probs.numpy(), np.random.default_rng(6))
    by_pixel = TemperatureScaling().fit(images, y.reshape(4, 10))
    by_row = TemperatureScaling().fit(p, y)
    assert by_pixel.temperature == pytest.approx(by_row.temperature, rel=1e-9)
    flat = by_pixel(images).probs.movedim(1, 2).reshape(40, 3)
    torch.testing.assert_close(flat, by_row(p).probs)
    torch.testing.assert_close(
        by_pixel(images).expected_entropy.flatten(), by_row(p).expected_entropy
    )


def test_certain_rows_stay_certain() -> None:
    certain = averaged([[1.0, 0.0], [0.5, 0.5]])
    scaled = fitted(3, 1)(certain)
    assert scaled.probs.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    np.testing.assert_allclose(scaled.expected_entropy, entropies(certain.probs))


def test_passes_that_agree_on_certainty_may_contain_zeros() -> None:
    samples = np.array([[[1.0, 0.0], [0.7, 0.3]], [[0.6, 0.4], [0.0, 1.0]]])
    scaling = TemperatureScaling("passes").fit(
        from_passes(np.tile(samples, (1, 2, 1))), [0, 1, 1, 0]
    )
    assert bool(torch.isfinite(scaling(from_passes(samples)).probs).all())


def test_float32_in_float32_out() -> None:
    p = from_passes(PASSES)
    narrow = mcdrop.ClassificationPrediction(
        **{name: getattr(p, name).float() for name in p._tensors()}, n_samples=6
    )
    scaled = fitted(3, 1)(narrow)
    assert {value.dtype for value in scaled._tensors().values()} == {torch.float32}


def test_rows_are_scaled_each_on_its_own() -> None:
    p = from_passes(PASSES)
    scaling = TemperatureScaling("passes").fit(p, SOFTER)
    torch.testing.assert_close(scaling(p)[3:5].probs, scaling(p[3:5]).probs)


def test_errors_say_what_to_do() -> None:
    p = from_passes(PASSES)
    y = np.zeros(40, dtype=int)
    with pytest.raises(mcdrop.RangeError, match='`apply_to` to be one of "mean", "passes"'):
        TemperatureScaling("logits")  # type: ignore[arg-type]
    with pytest.raises(mcdrop.UnsupportedError, match=r"to be fitted.*Call fit\(prediction, y\)"):
        TemperatureScaling()(p)
    with pytest.raises(mcdrop.UnsupportedError, match="TemperatureScaling.temperature: expected"):
        _ = TemperatureScaling().temperature
    with pytest.raises(
        mcdrop.UnsupportedError,
        match="be a ClassificationPrediction, but got RegressionPrediction. Use a recalibration",
    ):
        TemperatureScaling().fit(normal([0.0], 1), [0])  # type: ignore[arg-type]
    with pytest.raises(mcdrop.UnsupportedError, match="but got ndarray. Pass what predict_with_u"):
        TemperatureScaling().fit(PASSES, y)
    with pytest.raises(mcdrop.ShapeError, match=r"shape \(40,\) to match .* but got \(39,\)"):
        TemperatureScaling().fit(p, y[1:])
    with pytest.raises(mcdrop.ShapeError, match="`y` to hold at least one row"):
        TemperatureScaling().fit(p[:0], y[:0])
    with pytest.raises(
        mcdrop.RangeError, match="class indices from 0 to 2, but got 3 in rows 0, 1"
    ):
        TemperatureScaling().fit(p, y + 3)
    with pytest.raises(mcdrop.UnsupportedError, match="hold numbers, but got dtype <U3"):
        TemperatureScaling().fit(p, np.array(["cat"] * 40))
    with pytest.raises(mcdrop.NonFiniteError, match="in row 1"):
        TemperatureScaling().fit(averaged([[0.5, 0.5], [np.nan, 0.5]]), [0, 1])


def test_passes_need_samples() -> None:
    without = from_passes(PASSES, keep=False)
    with pytest.raises(mcdrop.OutputError, match=r'keep_samples=True, or .*apply_to="mean"'):
        TemperatureScaling("passes").fit(without, np.zeros(40, dtype=int))


def test_labels_given_probability_zero_are_named() -> None:
    with pytest.raises(mcdrop.RangeError, match="probability 0 in row 1"):
        TemperatureScaling().fit(averaged([[0.5, 0.5], [1.0, 0.0]]), [0, 1])


def test_a_temperature_that_does_not_exist_is_not_made_up() -> None:
    # All right: the sharper the better. Never better than a coin: the softer the better.
    with pytest.raises(mcdrop.RangeError, match="grows the sharper.*some of them misclassified"):
        TemperatureScaling().fit(averaged([[0.9, 0.1]] * 3), [0, 0, 0])
    with pytest.raises(mcdrop.RangeError, match="grows the softer.*carry no information"):
        TemperatureScaling().fit(averaged([[0.9, 0.1]] * 4), [0, 1, 0, 1])
