"""The corrected resampled t-test: by hand, and its false alarms on cross-validated scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mcdrop.comparison import resampled_difference, resampled_interval
from mcdrop.errors import NonFiniteError, RangeError, ShapeError

A, B = [0.81, 0.79, 0.85, 0.80, 0.90], [0.80, 0.80, 0.81, 0.78, 0.84]


def test_interval_and_p_value_by_hand() -> None:
    found = resampled_difference(A, B, test_share=0.25, level=0.9)
    d = np.subtract(A, B)
    # Nadeau & Bengio (2003), eq. 11 and below: (1 / J + n_test / n_train) s^2.
    error = np.sqrt((1 / 5 + 0.25) * d.var(ddof=1))
    low, high = stats.t.interval(0.9, 4, loc=d.mean(), scale=error)
    assert found.estimate.value == pytest.approx(d.mean())
    assert (found.estimate.low, found.estimate.high) == pytest.approx((low, high))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(d.mean()) / error, 4))
    assert found.estimate.n == 5


def test_without_overlap_it_is_students_test() -> None:
    found = resampled_difference(A, B, test_share=1e-15)
    assert found.p_value == pytest.approx(stats.ttest_rel(A, B).pvalue)


def test_swapping_the_methods_mirrors_the_difference() -> None:
    ab, ba = resampled_difference(A, B, 0.25), resampled_difference(B, A, 0.25)
    assert ab.p_value == ba.p_value
    assert (ab.estimate.low, ab.estimate.high) == pytest.approx(
        (-ba.estimate.high, -ba.estimate.low)
    )


def test_equal_differences_tell_nothing_about_their_spread() -> None:
    assert resampled_difference(A, np.add(A, 0.1).tolist(), 0.25).p_value == 1.0
    assert resampled_difference(A, A, 0.25).p_value == 1.0
    zero = [0.0] * 5
    assert resampled_difference(zero, zero, 0.25).p_value == 1.0


def false_alarms(n_simulations: int, n_repeats: int) -> tuple[float, float]:
    """Share of null differences found in repeated 5-fold scores: corrected, by Student's test.

    Two least-squares fits, on one feature each, that play the same part: no difference.
    """
    rng = np.random.default_rng(0)
    corrected = plain = 0
    for _ in range(n_simulations):
        X = rng.normal(size=(50, 2))
        y = X.sum(axis=1) + rng.normal(size=50)
        scores: tuple[list[float], list[float]] = ([], [])
        for _ in range(n_repeats):
            folds = rng.permutation(50) % 5
            for fold in range(5):
                train, test = folds != fold, folds == fold
                for j in range(2):
                    w = X[train, j] @ y[train] / (X[train, j] @ X[train, j])
                    scores[j].append(float(np.square(y[test] - w * X[test, j]).mean()))
        corrected += resampled_difference(*scores, test_share=0.25).p_value <= 0.05
        plain += bool(stats.ttest_rel(*scores).pvalue <= 0.05)
    return corrected / n_simulations, plain / n_simulations


@pytest.mark.parametrize(("n_simulations", "n_repeats"), [(1000, 1), (300, 6)])
def test_false_alarms_stay_at_their_level(n_simulations: int, n_repeats: int) -> None:
    corrected, plain = false_alarms(n_simulations, n_repeats)
    # 4 standard errors of a share of 0.05.
    error = np.sqrt(0.05 * 0.95 / n_simulations)
    assert corrected <= 0.05 + 4 * error
    assert corrected < plain
    if n_repeats > 1:
        assert plain > 0.05 + 4 * error, "the plain test takes overlap for evidence"


def test_mistakes_are_named() -> None:
    with pytest.raises(ShapeError, match=r"`scores` to have shape \(J,\) with J >= 2 splits"):
        resampled_interval([1.0], 0.25)
    with pytest.raises(ShapeError, match="`scores_b` to hold 5 splits, but got 2"):
        resampled_difference(A, [1.0, 2.0], 0.25)
    with pytest.raises(RangeError, match="`test_share` to be a finite number above 0"):
        resampled_interval(A, 0.0)
    with pytest.raises(NonFiniteError, match="`scores_a` to hold finite numbers"):
        resampled_difference([1.0, np.nan], [1.0, 2.0], 0.25)
    with pytest.raises(RangeError, match=r"`level` to lie in \(0, 1\)"):
        resampled_interval(A, 0.25, level=95)
