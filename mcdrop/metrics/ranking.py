"""Whether uncertainty ranks errors: the rank correlation and its test."""

from __future__ import annotations

from functools import partial

import numpy as np

from mcdrop.checks import require_count
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._reduction import Reduction, finished
from mcdrop.metrics.calibration_tests import CalibrationTest, monte_carlo_p
from mcdrop.metrics.selective import take_ranked

# Above this the t approximation of the rank correlation is as exact as 999 permutations.
_PERMUTED_ROWS = 1000


@finished
def ranking_test(
    uncertainty: ArrayLike, *, loss: ArrayLike, n_resamples: int = 999, seed: int = 0
) -> Reduction[CalibrationTest]:
    """Permutation test of Spearman's rank correlation between uncertainty and error, two-sided.

    Under the null hypothesis losses are exchangeable between rows:
    p = (1 + #{|permuted| >= |observed|}) / (R + 1); above 1000 rows by Student's t of
    r sqrt((N - 2) / (1 - r^2)).

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        loss: Loss of each row, such as zero-one or absolute errors, shape (N,).
        n_resamples: Number R of permutations; the smallest p-value is 1 / (R + 1).
        seed: Seed of the permutations.

    Returns:
        The correlation with its p-value: "rising" if errors grow with the uncertainty,
        "falling" if the uncertainty ranks errors backwards, "none" if the correlation is 0, which
        it also is where either is the same in all rows.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If `n_resamples` is not an integer of at least 19.

    Source:
        Spearman (1904); Pitman (1937) for the permutation test.

    Example:
        >>> test = ranking_test([0.1, 0.2, 0.3, 0.4], loss=[3.0, 2.0, 1.0, 0.0])
        >>> test.direction, test.statistic
        ('falling', -1.0)
    """
    function = "ranking_test"
    require_count(function, "n_resamples", n_resamples, 19)
    require_count(function, "seed", seed, 0)
    columns = take_ranked(function, uncertainty, loss)
    end = partial(_ranking, n_resamples=n_resamples, seed=seed)
    return Reduction(columns, end, additive=False)


def _ranking(columns: Float64, n_resamples: int, seed: int) -> CalibrationTest:
    from scipy.special import stdtr
    from scipy.stats import rankdata

    n = columns.shape[1]
    ranks = rankdata(columns, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = float(np.sqrt(np.square(ranks).sum(axis=1).prod()))
    r = float(np.clip(ranks[0] @ ranks[1] / scale, -1, 1)) if scale > 0 else 0.0
    if r == 0:
        return CalibrationTest(0.0, 1.0, "none", n)
    if n > _PERMUTED_ROWS:
        t = np.inf if abs(r) == 1 else abs(r) * np.sqrt((n - 2) / (1 - r**2))
        p_value = float(2 * stdtr(n - 2, -t))
    else:
        draw = np.random.default_rng(seed)
        permuted = draw.permuted(np.tile(ranks[1], (n_resamples, 1)), axis=1) @ ranks[0] / scale
        p_value = monte_carlo_p(abs(r), np.abs(permuted))
    return CalibrationTest(r, p_value, "rising" if r > 0 else "falling", n)
