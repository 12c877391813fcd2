from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcdrop.errors import RangeError
from mcdrop.metrics import BrierDecomposition, brier_decomposition, brier_score

RNG = np.random.default_rng(0)
P = RNG.uniform(size=300)
Y = (RNG.uniform(size=300) < P**2).astype(int)
PROBS, LABELS = RNG.dirichlet(np.ones(3), 200), RNG.integers(0, 3, 200)
Binning = Literal["uniform", "quantile", "isotonic"]
BINNINGS: tuple[Binning, ...] = ("uniform", "quantile", "isotonic")
ROWS = st.lists(
    st.tuples(st.sampled_from([k / 8 for k in range(9)]) | st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=25,
)


def _total(parts: BrierDecomposition) -> float:
    return parts.reliability - parts.resolution + parts.uncertainty + parts.within_bin


def test_parts_by_hand() -> None:
    # Bins: {0.2, 0.2 | 0, 1} and {0.8, 0.8 | 1, 1}; o = 3/4.
    # reliability (0.3^2 + 0.2^2) / 2, resolution ((1/4)^2 + (1/4)^2) / 2, uncertainty 3/16.
    parts = brier_decomposition([0.2, 0.2, 0.8, 0.8], [0, 1, 1, 1], n_bins=2, kind="binary")
    assert parts.reliability == pytest.approx(0.065)
    assert parts.resolution == pytest.approx(0.0625)
    assert parts.uncertainty == pytest.approx(0.1875)
    assert parts.within_bin == pytest.approx(0.0, abs=1e-15)
    assert parts.score == pytest.approx((0.04 + 0.64 + 0.04 + 0.04) / 4)


@pytest.mark.parametrize("binning", BINNINGS)
@given(rows=ROWS)
def test_parts_add_up_to_the_score(binning: Binning, rows: list[tuple[float, bool]]) -> None:
    p, y = [r[0] for r in rows], [r[1] for r in rows]
    parts = brier_decomposition(p, y, n_bins=4, binning=binning, kind="binary")
    assert _total(parts) == pytest.approx(parts.score, abs=1e-12)
    assert parts.score == pytest.approx(np.mean(brier_score(p, y, kind="binary")), abs=1e-12)
    assert parts.reliability >= -1e-12
    assert -1e-12 <= parts.resolution <= parts.uncertainty + 1e-12


@pytest.mark.parametrize("binning", BINNINGS)
def test_classes_add_up(binning: Binning) -> None:
    whole = brier_decomposition(PROBS, LABELS, binning=binning)
    assert whole.score == pytest.approx(np.mean(brier_score(PROBS, LABELS)))
    assert _total(whole) == pytest.approx(whole.score)
    each = [
        brier_decomposition(PROBS[:, c], np.equal(LABELS, c), binning=binning, kind="binary")
        for c in range(3)
    ]
    assert whole.reliability == pytest.approx(sum(part.reliability for part in each))
    assert whole.resolution == pytest.approx(sum(part.resolution for part in each))


def test_one_forecast_per_bin_leaves_nothing_within() -> None:
    p = np.clip(np.round(P, 1), 0.1, 1.0)  # 0 and 0.1 share the first bin
    parts = brier_decomposition(p, Y, n_bins=10, kind="binary")
    assert parts.within_bin == pytest.approx(0.0, abs=1e-12)


def test_isotonic_reliability_is_what_recalibration_gains() -> None:
    # Strictly monotone maps change the score but not the best monotone recalibration of it.
    raw = brier_decomposition(P, Y, binning="isotonic", kind="binary")
    squared = brier_decomposition(P**2, Y, binning="isotonic", kind="binary")
    assert squared.resolution == pytest.approx(raw.resolution)
    assert squared.reliability < raw.reliability
    assert raw.score - squared.score == pytest.approx(raw.reliability - squared.reliability)


def test_forecasts_one_rounding_apart_are_recalibrated() -> None:
    # scikit-learn's IsotonicRegression gives NaN here.
    p = [0.0, 1.0, np.nextafter(1.0, 0.0)]
    parts = brier_decomposition(p, [0, 0, 0], binning="isotonic", kind="binary")
    assert parts.reliability == pytest.approx(2 / 3)


def test_constant_forecast_resolves_nothing() -> None:
    for binning in BINNINGS:
        parts = brier_decomposition([0.5] * 4, [0, 1, 1, 1], binning=binning, kind="binary")
        assert parts.resolution == pytest.approx(0.0, abs=1e-15)
        assert parts.reliability == pytest.approx(1 / 16)


def test_absent_class_adds_only_reliability() -> None:
    # Class 2 never occurs and is given 0.2: reliability 0.2^2, no uncertainty.
    with_absent = brier_decomposition([[0.4, 0.4, 0.2]] * 4, [0, 0, 1, 1])
    assert with_absent.reliability == pytest.approx(2 * 0.1**2 + 0.2**2)
    assert with_absent.uncertainty == pytest.approx(0.5)


def test_options_that_cannot_be_are_named() -> None:
    with pytest.raises(
        RangeError, match='`binning` to be one of "uniform", "quantile", "isotonic"'
    ):
        brier_decomposition(P, Y, kind="binary", binning="pav")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match='`kind` to be one of "multiclass", "binary"'):
        brier_decomposition(PROBS, LABELS, kind="classwise")  # type: ignore[arg-type]
