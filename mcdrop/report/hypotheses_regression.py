"""What a calibrated regression would satisfy, tested.

If targets come from the predicted distributions, the PIT values are uniform, so their normal scores
z = Phi^-1(PIT) are standard normal and independent of the stated standard deviation. For a normal
prediction z = (y - mean) / std. Outputs of one row may depend on each other: each output is tested
on its own and the smallest p-value is multiplied by their number (Bonferroni).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mcdrop.displays._curve import Float64
from mcdrop.displays._regression import Regression
from mcdrop.metrics import coverage_test, ranking_test, shape_test, width_test
from mcdrop.report.hypotheses import Hypothesis

__all__ = ["NOMINAL", "regression_hypotheses"]

# Level of the intervals that the page judges.
NOMINAL = 0.9


def regression_hypotheses(r: Regression, seed: int) -> dict[str, Hypothesis]:
    """Test what the page states about one regression; nothing if it states no spread."""
    if not r.has_spread:
        return {}
    found, bounds = {}, r.bounds(NOMINAL)
    if bounds is not None:
        low, high, target = bounds
        p_value = coverage_test(low, high, target, level=NOMINAL).p_value
        found["coverage_90"] = Hypothesis("90 % intervals hold 90 % of the targets", p_value)
    if r.scores is not None and r.pit_or_rank is not None:
        found |= _distribution(r.scores, np.asarray(r.pit_or_rank))
    return found | _by_row(r, seed)


def _distribution(z: Float64, pit_values: Float64) -> dict[str, Hypothesis]:
    """Test bias, spread and shape; an output with equal errors in all rows has no shape."""
    shape = 1.0 if _constant(z).any() else shape_test(pit_values).p_value
    return {
        "bias": Hypothesis("the standardized errors have mean 0", bias_p_value(z)),
        "dispersion": Hypothesis(
            "the standardized errors have variance 1", width_test(pit_values).p_value
        ),
        "shape": Hypothesis("the standardized errors are normal, of any mean and variance", shape),
    }


def _by_row(r: Regression, seed: int) -> dict[str, Hypothesis]:
    """Test whether the stated std tells rows apart, and rightly so; nothing if it is constant."""
    std = r.prediction.std.mean(dim=1).numpy()
    if std.max() - std.min() <= 1e-6 * std.max():
        return {}
    found = {}
    if r.scores is not None:
        size = np.abs(r.scores - r.scores.mean(axis=0)).mean(axis=1)
        found["by_row"] = Hypothesis(
            "the size of the standardized errors does not depend on the stated std",
            ranking_test(std, loss=size, seed=seed).p_value,
        )
    found["ranking"] = Hypothesis(
        "the size of the errors does not depend on the stated std",
        ranking_test(std, loss=r.row_errors, seed=seed).p_value,
    )
    return found


def bias_p_value(z: Float64) -> float:
    """t-test of mean 0, the smallest p-value over outputs times their number.

    Exact for calibrated predictions, and also where all stated std are off by one factor: a test
    against variance 1 would take stds three times too small for a bias in half of all data sets.
    """
    from scipy.stats import t

    n, mean, std = len(z), z.mean(axis=0), z.std(axis=0, ddof=1)
    statistic = np.sqrt(n) * mean / np.where(std > 0, std, 1.0)
    p_values = np.where(_constant(z), 1.0 * (mean == 0), 2 * t.sf(np.abs(statistic), n - 1))
    return float(min(1.0, len(p_values) * p_values.min()))


def _constant(z: Float64) -> npt.NDArray[np.bool_]:
    """Outputs with equal errors in all rows: a bias beyond doubt, or no error at all."""
    return np.ptp(z, axis=0) <= 1e-9 * np.abs(z).max(axis=0)
