"""Tests of class probabilities: null distributions against enumeration, directions, blind spots."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mcdrop.errors import RangeError
from mcdrop.metrics import calibration_test, confidence_test, holm
from mcdrop.metrics.calibration_tests import _poisson_binomial

RNG = np.random.default_rng(0)


def test_number_of_right_rows_is_poisson_binomial_by_enumeration() -> None:
    p = RNG.uniform(size=9)
    want = np.zeros(10)
    for outcome in itertools.product([0, 1], repeat=9):
        want[sum(outcome)] += np.prod(np.where(outcome, p, 1 - p))
    np.testing.assert_allclose(_poisson_binomial(p), want, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 64, 1000])
def test_equal_confidences_give_the_binomial(n: int) -> None:
    np.testing.assert_allclose(
        _poisson_binomial(np.full(n, 0.3)), stats.binom(n, 0.3).pmf(np.arange(n + 1)), atol=1e-14
    )


def test_p_value_doubles_the_smaller_tail() -> None:
    # Eight rows at .75 of which three are right: P(K <= 3) of binomial(8, .75).
    found = confidence_test([0.75] * 8, [1] * 3 + [0] * 5, kind="binary")
    assert found.p_value == pytest.approx(2 * stats.binom(8, 0.75).cdf(3))
    assert found.statistic == pytest.approx(0.75 - 3 / 8)
    assert (found.direction, found.n) == ("too_high", 8)


def test_directions_of_confidence() -> None:
    probs = np.tile([0.8, 0.1, 0.1], (50, 1))
    right = np.zeros(50, int)
    assert confidence_test(probs, right).direction == "underconfident"
    assert confidence_test(probs, right + 1).direction == "overconfident"
    assert calibration_test(probs, right + 1).direction == "overconfident"
    even = confidence_test([0.5, 0.5], [0, 1], kind="binary")
    assert (even.direction, even.p_value) == ("none", 1.0)


def test_ten_confident_rows_that_are_right_are_no_surprise() -> None:
    # .95^10 = .6: far from a false alarm, where a bootstrap of ten equal rows has no width.
    probs = np.tile([0.95, 0.03, 0.02], (10, 1))
    assert confidence_test(probs, np.zeros(10, int)).p_value == 1.0
    assert calibration_test(probs, np.zeros(10, int)).p_value > 0.5


def test_sure_and_wrong_is_impossible_if_calibrated() -> None:
    assert confidence_test([[1.0, 0.0]], [1]).p_value == 0.0
    # The smallest Monte Carlo p-value.
    assert calibration_test([[1.0, 0.0]], [1], n_resamples=99).p_value == 0.01
    assert calibration_test([[1.0, 0.0]], [0]).p_value == 1.0


def test_statistic_is_the_largest_gap_over_intervals_of_confidence() -> None:
    p = np.round(RNG.uniform(size=25), 1)
    y = RNG.integers(0, 2, 25)
    levels = sorted(set(p))
    want = max(
        abs((p - y)[(p >= low) & (p <= high)].sum()) / 25
        for low in levels
        for high in levels
        if low <= high
    )
    assert calibration_test(p, y, kind="binary").statistic == pytest.approx(want)


def test_opposite_deviations_do_not_cancel() -> None:
    # Confidence .6 where right .9 and .9 where right .6: no overall gap, .15 over half the rows.
    p = np.repeat([0.6, 0.9], 100)
    y = np.repeat([1, 0, 1, 0], [90, 10, 60, 40])
    assert confidence_test(p, y, kind="binary").p_value > 0.9
    found = calibration_test(p, y, kind="binary")
    assert found.statistic == pytest.approx(0.15)
    assert (found.direction, found.p_value) == ("mixed", 0.001)


def test_order_of_rows_and_of_equal_confidences_changes_nothing() -> None:
    p, y = np.round(RNG.uniform(size=40), 1), RNG.integers(0, 2, 40)
    order = RNG.permutation(40)
    assert calibration_test(p[order], y[order], kind="binary") == calibration_test(
        p, y, kind="binary"
    )


def test_same_seed_same_p_value() -> None:
    p, y = RNG.uniform(size=40), RNG.integers(0, 2, 40)
    one, two = (calibration_test(p, y, kind="binary", seed=seed) for seed in (1, 2))
    assert one == calibration_test(p, y, kind="binary", seed=1)
    assert one.statistic == two.statistic


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .03, .5 times 4, 3, 2, 1, then the running maximum.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm(0.2).tolist() == [0.2]  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.2))
def test_holm_rejects_as_its_steps_do(p: list[float], level: float) -> None:
    rejected: set[int] = set()
    for step, row in enumerate(np.argsort(p, kind="stable")):
        if p[row] * (len(p) - step) > level:
            break
        rejected.add(int(row))
    assert set(np.flatnonzero(holm(p) <= level)) == rejected


def test_options_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match='`kind` to be one of "top_label", "binary", but got'):
        confidence_test([[0.5, 0.5]], [0], kind="classwise")  # type: ignore[arg-type]
    with pytest.raises(
        RangeError, match="`n_resamples` to be an integer of at least 19, but got 9"
    ):
        calibration_test([0.5], [0], kind="binary", n_resamples=9)
    with pytest.raises(RangeError, match=r"`p_values` to be a list of numbers in \[0, 1\]"):
        holm([0.5, 1.5])


def test_certainty_is_a_probability() -> None:
    assert calibration_test([1.0, 0.0], [1, 0], kind="binary").p_value == 1


def test_a_p_value_of_one_can_be_adjusted() -> None:
    assert holm([1.0, 0.02]).tolist() == [1.0, 0.04]
