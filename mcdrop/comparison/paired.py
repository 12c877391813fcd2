"""Means over splits whose training rows overlap, and paired differences of two methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcdrop.checks import checked_positive, require_finite, require_unit
from mcdrop.errors import ShapeError
from mcdrop.metrics import Estimate
from mcdrop.prediction.targets import numbers

__all__ = ["PairedDifference", "resampled_difference", "resampled_interval"]

Float64 = npt.NDArray[np.float64]
METHOD = "corrected resampled t"


@dataclass(frozen=True)
class PairedDifference:
    """A difference of two methods on the same splits or rows.

    Attributes:
        estimate: First minus second, with its interval.
        p_value: Two-sided, of the hypothesis that the two do not differ.
    """

    estimate: Estimate
    p_value: float


def resampled_interval(
    scores: Sequence[float], test_share: float, *, level: float = 0.95
) -> Estimate:
    """Mean of the scores of several splits, with an interval for overlapping training rows.

    Splits of one table share training rows, so that their scores are correlated and the variance
    of their mean exceeds s^2 / J. With correlation n_test / (n_test + n_train) between any two,
    it is (1 / J + n_test / n_train) s^2, and the interval is Student's with J - 1 degrees of
    freedom.

    Args:
        scores: One score per split, (J,), J >= 2.
        test_share: n_test / n_train; 1 / (J - 1) for J folds.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The mean with its interval; method "corrected resampled t", n the number of splits.

    Raises:
        ShapeError: If there are fewer than 2 splits.
        NonFiniteError: If a score is NaN or infinite.
        RangeError: If `test_share` is not positive, or `level` outside (0, 1).

    Source:
        Nadeau & Bengio (2003), Inference for the generalization error, section 3.1; Bouckaert &
        Frank (2004).

    Example:
        >>> found = resampled_interval([1.0, 2.0, 3.0], test_share=0.5)
        >>> found.value, round(found.standard_error, 4)  # sqrt(1 / 3 + 1 / 2)
        (2.0, 0.9129)
    """
    values = _checked("resampled_interval", "scores", scores)
    share = checked_positive("resampled_interval", "test_share", test_share)
    require_unit("resampled_interval", "level", level)
    return _estimate(values, share, level)


def resampled_difference(
    scores_a: Sequence[float],
    scores_b: Sequence[float],
    test_share: float,
    *,
    level: float = 0.95,
) -> PairedDifference:
    """Mean difference of two methods over the same splits, with its test.

    The corrected resampled t-test: `resampled_interval` of the differences. Differences that are
    equal in all splits tell nothing about their spread, and get the p-value 1.

    Args:
        scores_a: Scores of the first method, (J,), J >= 2.
        scores_b: Scores of the second on the same splits.
        test_share: n_test / n_train.
        level: Coverage of the interval.

    Returns:
        First minus second.

    Raises:
        McdropError: As for `resampled_interval`, and if the numbers of splits differ.

    Source:
        Nadeau & Bengio (2003), section 3.1.

    Example:
        >>> found = resampled_difference([1.1, 1.9, 3.3], [1.0, 2.0, 3.0], test_share=0.5)
        >>> round(found.estimate.value, 3), round(found.p_value, 3)
        (0.1, 0.639)
    """
    function = "resampled_difference"
    first = _checked(function, "scores_a", scores_a)
    second = _checked(function, "scores_b", scores_b)
    if len(first) != len(second):
        raise ShapeError.of(
            function, "scores_b", f"hold {len(first)} splits", len(second), "Use the same splits"
        )
    share = checked_positive(function, "test_share", test_share)
    require_unit(function, "level", level)
    differences = first - second
    estimate = _estimate(differences, share, level)
    # Rounding leaves dust where all differences are equal.
    if estimate.standard_error <= 1e-12 * float(np.abs(first).max() + np.abs(second).max()):
        return PairedDifference(estimate, 1.0)
    return PairedDifference(estimate, t_p_value(estimate, len(first)))


def t_p_value(estimate: Estimate, n: int) -> float:
    """Two-sided p-value of Student's test that a mean of `n` numbers is 0."""
    from scipy.special import stdtr

    return float(2 * stdtr(n - 1, -abs(estimate.value) / estimate.standard_error))


def _estimate(values: Float64, share: float, level: float) -> Estimate:
    from scipy.special import stdtrit

    n, mean = len(values), float(values.mean())
    error = math.sqrt(1 / n + share) * float(values.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * error
    return Estimate(mean, mean - half, mean + half, error, level, n, METHOD)


def _checked(function: str, argument: str, scores: Sequence[float]) -> Float64:
    """Return finite scores of at least two splits."""
    values = numbers(function, argument, scores)
    if values.ndim != 1 or len(values) < 2:
        raise ShapeError.of(
            function,
            argument,
            "have shape (J,) with J >= 2 splits",
            tuple(values.shape),
            "Score more splits; for a single one use mean_difference of its rows",
        )
    require_finite(function, axis=0, **{argument: values})
    array: Float64 = values.numpy()
    return array
