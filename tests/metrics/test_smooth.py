from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcdrop.errors import RangeError
from mcdrop.metrics import expected_calibration_error, smooth_calibration_error
from tests.metrics import oracles

ROWS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=8)


def _smooth(p: object, y: object) -> float:
    return smooth_calibration_error(np.asarray(p, float), np.asarray(y), kind="binary")


@settings(max_examples=25)
@given(ROWS)
def test_images_and_bisection_give_the_same(rows: list[tuple[float, bool]]) -> None:
    p, y = np.array([r[0] for r in rows]), np.array([float(r[1]) for r in rows])
    want = oracles.smooth_calibration_error(p, y, cells=1500)
    assert _smooth(p, y) == pytest.approx(want, rel=2e-3, abs=2e-3)


def test_constant_bias_is_the_bias() -> None:
    # All forecasts 0.7 and 0.2 too high: the kernel has mass 1, so every bandwidth gives 0.2.
    assert _smooth([0.7] * 10, [1] * 5 + [0] * 5) == pytest.approx(0.2, rel=1e-9)


def test_always_wrong_and_sure_is_one_and_right_is_zero() -> None:
    assert _smooth([0.0, 0.0], [1, 1]) == pytest.approx(1.0, rel=1e-9)
    assert _smooth([0.0, 1.0], [0, 1]) == 0.0


def test_two_sure_mistakes_at_the_ends_by_hand() -> None:
    # Residuals +1/2 at 0 and -1/2 at 1. On [0, 1], r_s(t) = K_s(t, 0) / 2 - K_s(t, 1) / 2 is
    # odd about 1/2, so smECE_s is the mass of K_s(., 0) below 1/2 less that above:
    # 1 - 2 P(1/2 < |reflected N(0, s)| < 1). At s = 0.67.. the two sides meet.
    from scipy import optimize, stats

    def excess(s: float) -> float:
        k = np.arange(-6, 7)
        above = stats.norm.cdf((2 * k + 1.5) / s) - stats.norm.cdf((2 * k + 0.5) / s)
        return float(1 - 2 * above.sum()) - s

    want = optimize.brentq(excess, 0.1, 1)
    assert _smooth([0.0, 1.0], [1, 0]) == pytest.approx(want, rel=1e-5)


def test_small_moves_of_the_forecast_move_it_little_unlike_bins() -> None:
    # The example of the paper: half of the outcomes at 1/2 - e, half at 1/2 + e.
    p, y = np.array([0.5 - 1e-6, 0.5 + 1e-6] * 50), np.array([1, 0] * 50)
    assert expected_calibration_error(p, y, n_bins=2, kind="binary") > 0.49
    assert _smooth(p, y) < 2e-3


def test_calibrated_forecasts_tend_to_zero() -> None:
    rng = np.random.default_rng(0)
    values = []
    for n in (200, 20_000):
        p = rng.uniform(size=n)
        values.append(_smooth(p, rng.uniform(size=n) < p))
    # Noise of a share falls as 1 / sqrt(N): a tenth for a hundred times the rows.
    assert values[1] < values[0] / 2
    assert values[1] < 0.02


def test_distance_to_calibration_is_seen() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.2, 0.7, 20_000)
    # Too low by 0.2 everywhere.
    assert _smooth(p, rng.uniform(size=20_000) < p + 0.2) == pytest.approx(0.2, abs=0.03)


@given(ROWS, st.integers(0, 99))
def test_order_and_swapping_the_two_outcomes_change_nothing(
    rows: list[tuple[float, bool]], seed: int
) -> None:
    p, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    order = np.random.default_rng(seed).permutation(len(rows))
    one = _smooth(p, y)
    assert _smooth(p[order], y[order]) == pytest.approx(one, abs=1e-9)
    assert _smooth(1 - p, ~y) == pytest.approx(one, abs=1e-9)


def test_top_label_is_the_binary_form_of_confidence_and_hit() -> None:
    rng = np.random.default_rng(2)
    probs, y = rng.dirichlet(np.ones(3), 100), rng.integers(0, 3, 100)
    confidence, hits = oracles.top_label(probs, y)
    assert smooth_calibration_error(probs, y) == pytest.approx(_smooth(confidence, hits))
    with pytest.raises(RangeError, match='`kind` to be one of "top_label", "binary"'):
        smooth_calibration_error(probs, y, kind="classwise")  # type: ignore[arg-type]
