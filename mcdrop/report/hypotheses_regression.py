"""What a calibrated regression would satisfy, tested.

If targets come from the predicted distributions, the PIT values are uniform, so their normal scores
z = Phi^-1(PIT) are standard normal and independent of the stated standard deviation. For a normal
prediction z = (y - mean) / std. Outputs of one row may depend on each other: each output is tested
on its own and the smallest p-value is multiplied by their number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mcdrop.report.curves import Float64
from mcdrop.report.hypotheses import (
    Hypothesis,
    binomial_p_value,
    over_outputs,
    permutation_p_value,
)
from mcdrop.report.regression import Regression

__all__ = ["NOMINAL", "regression_hypotheses"]

# Level of the intervals that the page judges.
NOMINAL = 0.9
# The approximation of the Anderson-Darling test was made for 8 or more values.
_SHAPE_ROWS = 8


def regression_hypotheses(r: Regression, seed: int) -> dict[str, Hypothesis]:
    """Test what the page states about one regression; nothing if it states no spread."""
    if not r.has_spread:
        return {}
    found, inside, z = {}, r.inside(NOMINAL), r.scores
    if inside is not None:
        held = inside.sum(dim=0).double().numpy()
        p_values = binomial_p_value(held, len(inside), NOMINAL)
        found["coverage_90"] = Hypothesis(
            "90 % intervals hold 90 % of the targets", over_outputs(p_values)
        )
    if z is not None:
        found["bias"] = Hypothesis("the standardized errors have mean 0", over_outputs(_bias(z)))
        found["dispersion"] = Hypothesis(
            "the standardized errors have variance 1", over_outputs(_dispersion(z))
        )
        found["shape"] = Hypothesis(
            "the standardized errors are normal, of any mean and variance", over_outputs(_shape(z))
        )
    std = r.prediction.std.mean(dim=1).numpy()
    if std.max() - std.min() > 1e-6 * std.max():
        if z is not None:
            _, p_value = permutation_p_value(std, np.abs(z - z.mean(axis=0)).mean(axis=1), seed)
            found["by_row"] = Hypothesis(
                "the size of the standardized errors does not depend on the stated std", p_value
            )
        _, p_value = permutation_p_value(std, r.row_errors, seed)
        found["ranking"] = Hypothesis(
            "the size of the errors does not depend on the stated std", p_value
        )
    return found


def _bias(z: Float64) -> Float64:
    """t-test of mean 0, which stays exact where all stated std are off by one factor."""
    from scipy.stats import t

    n, mean, std = len(z), z.mean(axis=0), z.std(axis=0, ddof=1)
    constant = _constant(z)
    statistic = np.sqrt(n) * mean / np.where(std > 0, std, 1.0)
    p_values: Float64 = np.where(constant, 1.0 * (mean == 0), 2 * t.sf(np.abs(statistic), n - 1))
    return p_values


def _constant(z: Float64) -> npt.NDArray[np.bool_]:
    """Outputs with equal errors in all rows: a bias beyond doubt, or no error at all."""
    return np.ptp(z, axis=0) <= 1e-9 * np.abs(z).max(axis=0)


def _dispersion(z: Float64) -> Float64:
    """Chi-squared test of variance 1 around the mean of the errors."""
    from scipy.stats import chi2

    n, squares = len(z), np.square(z - z.mean(axis=0)).sum(axis=0)
    tails = np.minimum(chi2.cdf(squares, n - 1), chi2.sf(squares, n - 1))
    p_values: Float64 = 2 * tails
    return p_values


def _shape(z: Float64) -> Float64:
    """Anderson-Darling test of normality with fitted mean and variance.

    Statistic and p-value: D'Agostino & Stephens (1986), table 4.9.
    """
    from scipy.special import log_ndtr

    n, std = len(z), z.std(axis=0, ddof=1)
    if n < _SHAPE_ROWS:
        return np.ones(z.shape[1])
    w = np.sort((z - z.mean(axis=0)) / np.where(std > 0, std, 1.0), axis=0)
    weight = (2 * np.arange(1, n + 1) - 1)[:, None]
    a2 = -n - (weight * (log_ndtr(w) + log_ndtr(-w[::-1]))).mean(axis=0)
    a2 = np.minimum(a2 * (1 + 0.75 / n + 2.25 / n**2), 10.0)
    p_values: Float64 = np.where(
        a2 >= 0.6,
        np.exp(1.2937 - 5.709 * a2 + 0.0186 * a2**2),
        np.where(
            a2 > 0.34,
            np.exp(0.9177 - 4.279 * a2 - 1.38 * a2**2),
            np.where(
                a2 > 0.2,
                1 - np.exp(-8.318 + 42.796 * a2 - 59.938 * a2**2),
                1 - np.exp(-13.436 + 101.14 * a2 - 223.73 * a2**2),
            ),
        ),
    )
    return np.where(_constant(z), 1.0, p_values)
