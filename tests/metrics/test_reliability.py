from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve

from mcdrop.errors import RangeError
from mcdrop.metrics import ReliabilityCurve, expected_calibration_error, reliability_curve

RNG = np.random.default_rng(0)
P = RNG.uniform(size=500)
Y = RNG.uniform(size=500) < P


def test_bins_by_hand() -> None:
    curve = reliability_curve([0.0, 0.25, 0.5, 1.0], [0, 1, 1, 1], n_bins=4, kind="binary")
    # (0, 1/4] also holds 0; (1/2, 3/4] is empty.
    assert curve.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.count.tolist() == [2, 1, 0, 1]
    np.testing.assert_array_equal(curve.confidence, [0.125, 0.5, np.nan, 1])
    np.testing.assert_array_equal(curve.accuracy, [0.5, 1, np.nan, 1])
    assert np.isnan(curve.low[2])
    assert np.isnan(curve.high[2])


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_are_wilsons(level: float) -> None:
    curve = reliability_curve(P, Y, n_bins=8, kind="binary", level=level)
    for b in range(8):
        events = round(curve.accuracy[b] * curve.count[b])
        want = stats.binomtest(events, int(curve.count[b])).proportion_ci(level, method="wilson")
        assert curve.low[b] == pytest.approx(want.low, rel=1e-10)
        assert curve.high[b] == pytest.approx(want.high, rel=1e-10)


def test_intervals_cover_the_true_frequency() -> None:
    hits = [
        (c.low <= c.confidence) & (c.confidence <= c.high)
        for seed in range(100)
        for c in [_curve_of_calibrated(seed)]
    ]
    # 1000 bins at 95 %: four standard errors are 2.8 points.
    assert np.mean(hits) == pytest.approx(0.95, abs=0.03)


def _curve_of_calibrated(seed: int) -> ReliabilityCurve:
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=1000)
    return reliability_curve(p, rng.uniform(size=1000) < p, n_bins=10, kind="binary")


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_scikit_learn_agrees(binning: Literal["uniform", "quantile"]) -> None:
    curve = reliability_curve(P, Y, n_bins=5, binning=binning, kind="binary")
    observed, predicted = calibration_curve(Y, P, n_bins=5, strategy=binning)
    np.testing.assert_allclose(curve.accuracy, observed, rtol=1e-12)
    np.testing.assert_allclose(curve.confidence, predicted, rtol=1e-12)


def test_calibration_error_is_the_weighted_gap_of_the_curve() -> None:
    probs = RNG.dirichlet(np.ones(3), 200)
    y = RNG.integers(0, 3, 200)
    binnings: tuple[Literal["uniform", "quantile"], ...] = ("uniform", "quantile")
    for binning in binnings:
        curve = reliability_curve(probs, y, binning=binning)
        gap = np.nansum(curve.count * np.abs(curve.confidence - curve.accuracy)) / 200
        assert expected_calibration_error(probs, y, binning=binning) == pytest.approx(gap)


def test_quantile_edges_bound_their_rows() -> None:
    curve = reliability_curve(P, Y, n_bins=7, binning="quantile", kind="binary")
    assert curve.edges[0] == P.min()
    assert curve.edges[-1] == P.max()
    assert np.all(curve.edges[:-1] <= curve.confidence)
    assert np.all(curve.confidence <= curve.edges[1:])
    assert curve.count.tolist() == [len(part) for part in np.array_split(P, 7)]


def test_class_by_class_is_refused_with_its_remedy() -> None:
    with pytest.raises(RangeError, match='`kind` to be one of "top_label", "binary"'):
        reliability_curve(P, Y, kind="classwise")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match=r"`level` to lie in \(0, 1\)"):
        reliability_curve(P, Y, kind="binary", level=95)
