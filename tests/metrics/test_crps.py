from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import scoringrules
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mcdrop.errors import NonFiniteError, RangeError, ShapeError
from mcdrop.metrics import crps_ensemble, crps_normal, energy_score
from tests.metrics import oracles

FLOATS = st.floats(-100, 100)
SAMPLES = hnp.arrays(float, st.tuples(st.integers(2, 9), st.just(4)), elements=FLOATS)
TARGETS = hnp.arrays(float, 4, elements=FLOATS)
RNG = np.random.default_rng(0)


def test_crps_of_two_passes_by_hand() -> None:
    # Passes 0 and 2, y = 3: E|X - y| = (3 + 1) / 2 = 2, the one pair is 2 apart.
    # fair: 2 - 2 * 2 / (2 * 2 * 1) = 1; energy: 2 - 2 * 2 / (2 * 4) = 1.5.
    assert crps_ensemble([[0.0], [2.0]], [3.0]) == [1.0]
    assert crps_ensemble([[0.0], [2.0]], [3.0], estimator="energy") == [1.5]


def test_crps_normal_at_its_mean() -> None:
    # 2 phi(0) - 1 / sqrt(pi) = (sqrt(2) - 1) / sqrt(pi), times std.
    want = 3 * (math.sqrt(2) - 1) / math.sqrt(math.pi)
    assert crps_normal([5.0], [3.0], [5.0])[0] == pytest.approx(want, rel=1e-14)


def test_crps_is_the_absolute_error_of_a_point() -> None:
    assert crps_normal([1.0, 2.0], [0.0, 0.0], [4.0, 2.0]).tolist() == [3.0, 0.0]
    assert crps_ensemble(np.full((5, 1), 2.0), [4.0]).tolist() == [2.0]
    assert crps_ensemble([[2.0]], [4.0], estimator="energy").tolist() == [2.0]


def test_crps_normal_tends_to_the_absolute_error_as_the_spread_vanishes() -> None:
    assert crps_normal([0.0], [1e-12], [1.0])[0] == pytest.approx(1.0, abs=1e-11)


def test_crps_is_zero_when_all_samples_equal_y() -> None:
    assert crps_ensemble(np.full((6, 3), 7.5), np.full(3, 7.5)).tolist() == [0.0, 0.0, 0.0]


@given(SAMPLES, TARGETS)
def test_energy_form_is_the_integral_of_the_squared_step(
    samples: np.ndarray, y: np.ndarray
) -> None:
    ours = crps_ensemble(samples, y, estimator="energy")
    want = [oracles.crps_by_integral(samples[:, i], float(y[i])) for i in range(4)]
    np.testing.assert_allclose(ours, want, atol=1e-11)


@given(SAMPLES, TARGETS)
def test_sorted_form_equals_the_sum_over_pairs(samples: np.ndarray, y: np.ndarray) -> None:
    s = len(samples)
    for estimator, pairs in [("fair", s * (s - 1)), ("energy", s * s)]:
        want = [oracles.crps_by_pairs(samples[:, i], float(y[i]), pairs=pairs) for i in range(4)]
        ours = crps_ensemble(samples, y, estimator=estimator)  # type: ignore[arg-type]
        np.testing.assert_allclose(ours, want, atol=1e-11)


@given(SAMPLES, TARGETS, st.floats(-20, 20), st.floats(-50, 50))
def test_scaling_by_a_scales_crps_by_its_size_and_shifts_do_nothing(
    samples: np.ndarray, y: np.ndarray, a: float, b: float
) -> None:
    np.testing.assert_allclose(
        crps_ensemble(a * samples + b, a * y + b), abs(a) * crps_ensemble(samples, y), atol=1e-9
    )


@given(SAMPLES, TARGETS, st.integers(0, 99))
def test_passes_in_any_order_give_the_same_crps(
    samples: np.ndarray, y: np.ndarray, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(samples))
    np.testing.assert_allclose(
        crps_ensemble(samples[order], y), crps_ensemble(samples, y), atol=1e-12
    )


def test_scoringrules_agrees() -> None:
    samples, y, std = RNG.normal(size=(31, 40)), RNG.normal(size=40), RNG.uniform(0.1, 2, 40)
    for estimator, theirs in [("fair", "fair"), ("energy", "nrg")]:
        np.testing.assert_allclose(
            crps_ensemble(samples, y, estimator=estimator),  # type: ignore[arg-type]
            scoringrules.crps_ensemble(y, samples, m_axis=0, estimator=theirs),
            rtol=1e-10,
            atol=1e-12,
        )
    np.testing.assert_allclose(
        crps_normal(samples[0], std, y), scoringrules.crps_normal(y, samples[0], std), rtol=1e-12
    )


def test_many_passes_of_a_normal_approach_its_closed_form() -> None:
    y = np.linspace(-3, 3, 13)
    draws = np.random.default_rng(1).normal(0.5, 1.5, (40_000, 13))
    # The standard error is below std / sqrt(S) = 0.0075; 5 of them.
    np.testing.assert_allclose(
        crps_ensemble(draws, y), crps_normal(np.full(13, 0.5), np.full(13, 1.5), y), atol=0.04
    )


def test_fair_form_is_unbiased_for_few_passes_and_energy_is_not() -> None:
    rng = np.random.default_rng(2)
    samples, y = rng.normal(size=(3, 200_000)), np.full(200_000, 0.7)
    exact = crps_normal([0.0], [1.0], [0.7])[0]
    fair = np.asarray(crps_ensemble(samples, y))
    error = float(fair.std()) / math.sqrt(len(y))
    assert abs(fair.mean() - exact) < 4 * error
    # E|X - X'| / 2 shrinks by (S - 1) / S: the score grows by 1 / (S sqrt(pi)).
    energy = crps_ensemble(samples, y, estimator="energy").mean()
    assert energy - exact == pytest.approx(1 / (3 * math.sqrt(math.pi)), abs=4 * error)


def test_truth_minimizes_the_expected_crps() -> None:
    y = np.random.default_rng(3).normal(1.0, 2.0, 200_000)
    ones = np.ones_like(y)
    best = crps_normal(ones, 2 * ones, y).mean()
    for mean, std in [(1.2, 2.0), (0.8, 2.0), (1.0, 2.4), (1.0, 1.6)]:
        assert crps_normal(mean * ones, std * ones, y).mean() > best


def test_float32_passes_at_1000_keep_their_hundredths() -> None:
    exact = 0.01 * RNG.normal(size=(200, 50))
    samples = (1000 + exact).astype(np.float32)
    y = np.full(50, 1000, np.float32)
    wide = samples.astype(np.float64)
    want = [oracles.crps_by_pairs(wide[:, i] - 1000, 0.0, pairs=200 * 199) for i in range(3)]
    ours = crps_ensemble(samples, y)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours[:3], want, rtol=1e-5)


def test_many_passes_cost_no_pairs() -> None:
    # All pairs of 20 000 passes for 20 rows would be 64 GB.
    samples = np.linspace(0, 1, 20_001)[:, None] * np.ones(20)
    # Uniform on [0, 1] at y = 0: 1/2 - 1/2 * 1/3.
    score = crps_ensemble(samples, np.zeros(20), estimator="energy")
    np.testing.assert_allclose(score, 1 / 3, rtol=1e-4)


def test_outputs_are_scored_one_by_one() -> None:
    samples, y = RNG.normal(size=(5, 6, 2)), RNG.normal(size=(6, 2))
    both = crps_ensemble(samples, y)
    assert both.shape == (6, 2)
    np.testing.assert_allclose(both[:, 1], crps_ensemble(samples[..., 1], y[:, 1]), rtol=1e-14)


def test_energy_score_is_crps_for_one_output() -> None:
    samples, y = RNG.normal(size=(9, 7, 1)), RNG.normal(size=(7, 1))
    estimators: tuple[Literal["fair", "energy"], ...] = ("fair", "energy")
    for estimator in estimators:
        np.testing.assert_allclose(
            energy_score(samples, y, estimator=estimator),
            crps_ensemble(samples, y, estimator=estimator)[:, 0],
            atol=1e-13,
        )


def test_energy_score_matches_pairs_and_scoringrules() -> None:
    samples, y = RNG.normal(size=(8, 6, 3)), RNG.normal(size=(6, 3))
    ours = energy_score(samples, y, estimator="energy")
    want = [oracles.energy_by_pairs(samples[:, i], y[i], pairs=64) for i in range(6)]
    np.testing.assert_allclose(ours, want, rtol=1e-12)
    theirs = scoringrules.es_ensemble(y, samples, m_axis=0, v_axis=-1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_energy_score_in_blocks_equals_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, y = RNG.normal(size=(3000, 2, 2)), RNG.normal(size=(2, 2))
    one_by_one = [energy_score(samples[:, [i]], y[[i]])[0] for i in range(2)]
    np.testing.assert_allclose(energy_score(samples, y), one_by_one, rtol=1e-12)


def test_one_vector_has_an_energy_score_and_no_fair_one() -> None:
    # Without a pair the score is the distance: 5 of (3, 4).
    assert energy_score([[[3.0, 4.0]]], [[0.0, 0.0]], estimator="energy").tolist() == [5.0]
    with pytest.raises(ShapeError, match="energy_score: expected `samples` to "):
        energy_score([[[3.0, 4.0]]], [[0.0, 0.0]])


def test_energy_score_sees_the_wrong_correlation() -> None:
    rng = np.random.default_rng(5)
    together = [[1.0, 0.95], [0.95, 1.0]]
    y = rng.multivariate_normal([0, 0], together, 3000)
    right = rng.multivariate_normal([0, 0], together, (40, 3000))
    wrong = rng.multivariate_normal([0, 0], np.eye(2), (40, 3000))
    gain = energy_score(wrong, y) - energy_score(right, y)
    assert gain.mean() > 3 * gain.std() / math.sqrt(3000)


def test_crps_passes_gradients() -> None:
    samples = torch.tensor([[0.0], [2.0]], requires_grad=True)
    score = crps_ensemble(samples, torch.tensor([3.0]))
    assert isinstance(score, torch.Tensor)
    score.sum().backward()
    # fair: (|0 - 3| + |2 - 3|) / 2 - |0 - 2| / 2: slopes -1/2 + 1/2 and -1/2 - 1/2.
    assert samples.grad is not None
    assert samples.grad.flatten().tolist() == [0.0, -1.0]


def test_bad_ensembles_are_named() -> None:
    with pytest.raises(ShapeError, match=r"\(S, 120\) to match `y`, but got \(120, 50\)\. "
                       r"Put passes first: samples\.T\."):  # fmt: skip
        crps_ensemble(np.zeros((120, 50)), np.zeros(120))
    with pytest.raises(ShapeError, match=r"\(S, 3\) with S >= 2, but got \(1, 3\)\. Draw more"):
        crps_ensemble(np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(RangeError, match='`estimator` to be one of "fair", "energy", but got'):
        crps_ensemble(np.zeros((2, 3)), np.zeros(3), estimator="pwm")  # type: ignore[arg-type]
    with pytest.raises(NonFiniteError, match=r"crps_ensemble: expected `y`.* row 2"):
        crps_ensemble(np.zeros((2, 3)), [0.0, 0.0, np.nan])
    # Rows are the second axis of passes (S, N).
    with pytest.raises(NonFiniteError, match=r"crps_ensemble: expected `samples`.* row 2\."):
        crps_ensemble([[0.0, 0.0, np.nan], [0.0, 0.0, 0.0]], np.zeros(3))
    with pytest.raises(NonFiniteError, match=r"energy_score: expected `samples`.* row 1\."):
        energy_score([[[0.0], [0.0]], [[0.0], [np.inf]]], np.zeros((2, 1)))
    with pytest.raises(ShapeError, match=r"`y` to have shape \(N, D\).*Use crps_ensemble"):
        energy_score(np.zeros((2, 3)), np.zeros(3))
