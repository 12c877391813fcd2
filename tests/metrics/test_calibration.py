from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from mcdrop.errors import RangeError, ShapeError
from mcdrop.metrics import calibration_test, kolmogorov_smirnov_calibration_error
from mcdrop.metrics import expected_calibration_error as ece
from tests.metrics import oracles

RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.full(4, 0.5), 300)
Y = RNG.integers(0, 4, 300)
Norm = Literal["l1", "l2", "max"]
NORMS: tuple[Norm, ...] = ("l1", "l2", "max")
CONFIDENCES = st.lists(
    st.tuples(st.sampled_from([k / 20 for k in range(21)]) | st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=30,
)


def test_two_bins_by_hand() -> None:
    # Bins (0, 1/2] and (1/2, 1]: {0.2, 0.4 | 0, 1} has gap |0.3 - 0.5| = 0.2 with share 2/3,
    # {0.9 | 1} has gap 0.1 with share 1/3.
    p, y = [0.2, 0.4, 0.9], [0, 1, 1]
    want = {
        "l1": 0.2 * 2 / 3 + 0.1 / 3,
        "l2": math.sqrt(0.04 * 2 / 3 + 0.01 / 3),
        "max": 0.2,
    }
    for norm in NORMS:
        assert ece(p, y, n_bins=2, kind="binary", norm=norm) == pytest.approx(want[norm])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_bins", [1, 7, 15])
def test_loops_give_the_same(norm: Norm, n_bins: int) -> None:
    confidence, hits = oracles.top_label(PROBS, Y)
    uniform = oracles.bin_rows(confidence, n_bins)
    assert ece(PROBS, Y, n_bins=n_bins, norm=norm) == pytest.approx(
        oracles.calibration_error(confidence, hits, uniform, norm), rel=1e-12
    )
    quantile = oracles.equal_mass_rows(confidence, n_bins)
    assert ece(PROBS, Y, n_bins=n_bins, norm=norm, binning="quantile") == pytest.approx(
        oracles.calibration_error(confidence, hits, quantile, norm), rel=1e-12
    )


@given(CONFIDENCES)
def test_edges_belong_to_the_bin_below(rows: list[tuple[float, bool]]) -> None:
    p, y = [r[0] for r in rows], [float(r[1]) for r in rows]
    want = oracles.calibration_error(p, y, oracles.bin_rows(p, 10), "l1")
    assert ece(p, y, n_bins=10, kind="binary") == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_torchmetrics_agrees_off_the_edges(norm: Norm) -> None:
    probs, y = torch.from_numpy(PROBS), torch.from_numpy(Y)
    theirs = multiclass_calibration_error(probs, y, 4, n_bins=15, norm=norm)
    assert ece(probs, y, norm=norm) == pytest.approx(float(theirs), rel=1e-5)


def test_confidence_one_is_in_the_last_bin_unlike_torchmetrics() -> None:
    # One bin would be {0.95, 1.0 | 0, 1}: |0.975 - 0.5| = 0.475. torchmetrics bins 1.0 apart:
    # (|0.95 - 0| + |1 - 1|) / 2 = 0.475 as well; with the outcomes swapped it says
    # (|0.95 - 1| + |1 - 0|) / 2 = 0.525.
    p, y = torch.tensor([0.95, 1.0]), torch.tensor([1, 0])
    assert ece(p, y, kind="binary") == pytest.approx(0.475, abs=1e-7)
    assert float(binary_calibration_error(p, y, n_bins=15)) == pytest.approx(0.525, abs=1e-7)


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_classwise_is_the_mean_over_classes(binning: Literal["uniform", "quantile"]) -> None:
    each = [ece(PROBS[:, c], np.equal(Y, c), kind="binary", binning=binning) for c in range(4)]
    assert ece(PROBS, Y, kind="classwise", binning=binning) == pytest.approx(np.mean(each))
    squares = [
        ece(PROBS[:, c], np.equal(Y, c), kind="binary", binning=binning, norm="l2") ** 2
        for c in range(4)
    ]
    got = ece(PROBS, Y, kind="classwise", binning=binning, norm="l2")
    assert got == pytest.approx(math.sqrt(np.mean(squares)))


def test_absent_class_is_counted() -> None:
    # Class 2 never occurs and is given 0.2 throughout; the other two are exact.
    probs = [[0.4, 0.4, 0.2]] * 10
    y = [0] * 5 + [1] * 5
    assert ece(probs, y, kind="classwise") == pytest.approx((0.1 + 0.1 + 0.2) / 3)


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
@given(rows=CONFIDENCES, seed=st.integers(0, 99))
def test_order_of_rows_changes_nothing(
    binning: Literal["uniform", "quantile"], rows: list[tuple[float, bool]], seed: int
) -> None:
    p, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    order = np.random.default_rng(seed).permutation(len(rows))
    one = ece(p, y, kind="binary", n_bins=4, binning=binning)
    assert ece(p[order], y[order], kind="binary", n_bins=4, binning=binning) == pytest.approx(
        one, abs=1e-12
    )


@given(rows=CONFIDENCES)
def test_norms_are_ordered(rows: list[tuple[float, bool]]) -> None:
    # Jensen: the mean of the gaps is at most their root mean square, and that the largest.
    p, y = [r[0] for r in rows], [r[1] for r in rows]
    l1, l2, largest = (ece(p, y, kind="binary", norm=norm) for norm in NORMS)
    assert 0 <= l1 <= l2 + 1e-12
    assert l2 <= largest + 1e-12 <= 1 + 1e-9


def test_weight_two_counts_a_row_twice() -> None:
    p, y = PROBS[:20, 0], Y[:20] == 0
    weights = RNG.integers(0, 3, 20)
    rows = np.repeat(np.arange(20), weights)
    one = ece(p, y, kind="binary", weights=weights)
    assert one == pytest.approx(ece(p[rows], y[rows], kind="binary"))


def test_one_row_and_exact_zero_and_one() -> None:
    assert ece([[1.0, 0.0]], [0]) == 0.0
    assert ece([0.0, 1.0], [0, 1], kind="binary", binning="quantile") == 0.0
    assert ece([0.0, 1.0], [1, 0], kind="binary") == 1.0


def test_more_bins_than_rows_leaves_bins_empty() -> None:
    assert ece([0.25, 0.5], [0, 0], kind="binary", binning="quantile") == pytest.approx(0.375)


def test_single_and_double_precision_share_the_edges() -> None:
    # 0.2 = 3/15 and 0.6 = 9/15 lie on edges; in float32 both round up.
    p, y = [0.2, 0.15, 0.6, 0.55], [0, 1, 1, 0]
    double = ece(np.array(p), y, kind="binary")
    assert ece(np.array(p, np.float32), y, kind="binary") == pytest.approx(double, abs=1e-6)


def _calibrated(n: int, gap: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.1, 0.8, n)
    return p, rng.uniform(size=n) < p + gap


def test_debiased_l2_is_the_plug_in_less_its_variance_by_hand() -> None:
    # One bin, p = 0.5, events 3 of 4: d^2 = 1/16, f (1 - f) / (n - 1) = (3/16) / 3 = 1/16.
    p, y = [0.5] * 4, [1, 1, 1, 0]
    assert ece(p, y, kind="binary", norm="l2") == pytest.approx(0.25)
    assert ece(p, y, kind="binary", norm="l2", debiased=True) == pytest.approx(0.0, abs=1e-8)


def test_debiased_l1_subtracts_the_folded_normal_by_hand() -> None:
    # One bin, p = 0.5, events 30 of 50: d = 0.1, s^2 = 0.24 / 49. The bias is E|N(d, s^2)| - d.
    p, y = [0.5] * 50, [1] * 30 + [0] * 20
    s = math.sqrt(0.24 / 49)
    want = 2 * 0.1 - stats.foldnorm.mean(0.1 / s, scale=s)
    assert ece(p, y, kind="binary", debiased=True) == pytest.approx(want, rel=1e-10)
    assert want == pytest.approx(0.0952, abs=1e-4)


@pytest.mark.parametrize("event", [0, 1])
def test_debiased_leaves_out_bins_of_one_row(event: int) -> None:
    # The row at 0.9 has no variance to subtract, whatever it is; the four others have the gap of
    # their bin.
    p, y = [0.5] * 4 + [0.9], [1, 1, 1, 1, event]
    assert ece(p, y, kind="binary", debiased=True) == pytest.approx(0.5 * 4 / 5)
    assert ece(p, y, kind="binary", norm="l2", debiased=True) == pytest.approx(0.5 * (4 / 5) ** 0.5)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_debiasing_brings_small_samples_closer_to_the_truth(norm: Literal["l1", "l2"]) -> None:
    for gap in (0.0, 0.1):
        plain, fixed = [], []
        for seed in range(60):
            p, y = _calibrated(200, gap, seed)
            plain.append(ece(p, y, kind="binary", norm=norm))
            fixed.append(ece(p, y, kind="binary", norm=norm, debiased=True))
        assert abs(np.mean(fixed) - gap) < 0.7 * abs(np.mean(plain) - gap)


def test_options_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match="`n_bins` to be an integer of at least 1, but got 0"):
        ece(PROBS, Y, n_bins=0)
    with pytest.raises(RangeError, match='`binning` to be one of "uniform", "quantile"'):
        ece(PROBS, Y, binning="width")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match='`norm` to be one of "l1", "l2", "max", but got'):
        ece(PROBS, Y, norm="L1")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match='`kind` to be one of "top_label"'):
        ece(PROBS, Y, kind="multiclass")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match='`debiased` to be False with norm="max", but got True'):
        ece(PROBS, Y, norm="max", debiased=True)
    with pytest.raises(RangeError, match="`debiased` to be False with weights"):
        ece(PROBS, Y, debiased=True, weights=np.ones(300))
    with pytest.raises(ShapeError, match=r"`probs` to have shape \(N,\).*Flatten to pool"):
        ece(PROBS, PROBS > 0.5, kind="binary")


def test_kolmogorov_smirnov_error_is_the_largest_cumulative_gap() -> None:
    p = np.round(RNG.uniform(size=50), 1)
    y = RNG.integers(0, 2, 50)
    want = max(abs(float((p - y)[p <= t].sum())) / 50 for t in p)
    ks = kolmogorov_smirnov_calibration_error(p, y, kind="binary")
    assert ks == pytest.approx(want)
    # The gap over the best interval is at least that up to the best threshold, at most twice it.
    kuiper = calibration_test(p, y, kind="binary").statistic
    assert ks <= kuiper + 1e-12
    assert kuiper <= 2 * ks + 1e-12


def test_kolmogorov_smirnov_error_is_the_distance_of_cumulative_distributions() -> None:
    # One confidence: the gap itself; order and sign of the classes do not enter.
    probs = np.tile([0.8, 0.2], (10, 1))
    found = kolmogorov_smirnov_calibration_error(probs, np.repeat([0, 1], 5))
    assert found == pytest.approx(0.3)
    with pytest.raises(RangeError, match='`kind` to be one of "top_label", "binary"'):
        kolmogorov_smirnov_calibration_error(probs, [0] * 10, kind="classwise")  # type: ignore[arg-type]
