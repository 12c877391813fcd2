"""How well an uncertainty tells rows with errors from rows without: the AUROC of errors.

C = P(u_i > u_j) + P(u_i = u_j) / 2 for two rows with e_i > e_j. Where errors are 0 or 1 this is the
area under the ROC curve of detecting them; for errors of any size it is the concordance index.
"""

from __future__ import annotations

import math

import numpy as np

from mcdrop.displays._curve import Float64
from mcdrop.displays._draws import Draws
from mcdrop.metrics import Estimate

__all__ = ["error_auroc"]

# All pairs of rows are compared; beyond this number a random part of the rows is taken.
_MOST_ROWS = 4000


def error_auroc(uncertainty: Float64, error: Float64, draws: Draws) -> Estimate | None:
    """Return the AUROC of errors with its interval; None if all rows have the same error.

    Source:
        Newcombe (2006), Confidence intervals for an effect size measure based on the Mann-Whitney
        statistic, part 2, method 5, for errors of 0 or 1; the jackknife variance of a ratio of
        U-statistics on the logit scale for others.
    """
    if np.ptp(error) == 0:
        return None
    # Rows whose standard deviations differ by rounding alone are equally uncertain.
    if np.ptp(uncertainty) <= 1e-6 * np.abs(uncertainty).max():
        uncertainty = np.zeros_like(uncertainty)
    if set(np.unique(error)) <= {0.0, 1.0}:
        return _of_binary(uncertainty, error == 1, draws.level)
    return _of_any(uncertainty, error, draws)


def _of_binary(uncertainty: Float64, wrong: np.ndarray, level: float) -> Estimate:
    """Mann-Whitney with midranks; the ends solve |C - c| = z sqrt(V(c))."""
    from scipy.optimize import brentq
    from scipy.special import ndtri
    from scipy.stats import rankdata

    m, n = int(wrong.sum()), int((~wrong).sum())
    ranks = rankdata(uncertainty)
    value = float((ranks[wrong].sum() - m * (m + 1) / 2) / (m * n))
    z = float(ndtri((1 + level) / 2))

    def excess(c: float) -> float:
        return (value - c) ** 2 - z**2 * _variance(c, m, n)

    # At 0 and 1 the variance is 0 and both ends coincide: the other root lies inside.
    low = 0.0 if value == 0 else float(brentq(excess, 0.0, min(value, 1 - 1e-9)))
    high = 1.0 if value == 1 else float(brentq(excess, max(value, 1e-9), 1.0))
    error = math.sqrt(_variance(value, m, n))
    return Estimate(value, low, high, error, level, m + n, "newcombe")


def _variance(c: float, m: int, n: int) -> float:
    """Variance of the Mann-Whitney statistic: Hanley & McNeil (1982), with Newcombe's N*."""
    mean = (m + n) / 2 - 1
    return c * (1 - c) * (1 + mean * ((1 - c) / (2 - c) + c / (1 + c))) / (m * n)


def _of_any(uncertainty: Float64, error: Float64, draws: Draws) -> Estimate:
    """Concordance over all pairs of rows, with a t interval on the logit scale."""
    from scipy.special import expit, logit
    from scipy.stats import t

    if len(error) > _MOST_ROWS:
        rows = np.random.default_rng([draws.seed, 5]).permutation(len(error))[:_MOST_ROWS]
        uncertainty, error = uncertainty[rows], error[rows]
    n = len(error)
    apart = np.sign(error[:, None] - error[None, :])
    agree = 0.5 * (1 + apart * np.sign(uncertainty[:, None] - uncertainty[None, :]))
    pairs = (apart != 0).sum(axis=1).astype(np.float64)
    agreeing = np.where(apart != 0, agree, 0).sum(axis=1)
    # Half a pair each way keeps the logit finite where all pairs agree.
    value = float(agreeing.sum() / pairs.sum())
    moved = float((agreeing.sum() + 0.5) / (pairs.sum() + 1))
    off = agreeing - value * pairs
    spread = 2 * math.sqrt(float(np.square(off).sum()) / (n * (n - 1))) / float(pairs.mean())
    # Equal to that of no link, 2 (2 n + 5) / (9 n (n - 1)) / 4, scaled by how near c is to an end.
    least = math.sqrt((2 * n + 5) / (18 * n * (n - 1)) * 4 * moved * (1 - moved))
    reach = float(t.ppf((1 + draws.level) / 2, n - 1)) * max(spread, 0.5 * least)
    reach /= moved * (1 - moved)
    low, high = (float(expit(logit(moved) + side * reach)) for side in (-1, 1))
    return Estimate(value, min(low, value), max(high, value), spread, draws.level, n, "logit t")
