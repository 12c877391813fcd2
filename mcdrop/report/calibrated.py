"""What calibrated predictions with the same confidences would show: the null of calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcdrop.metrics import Estimate, ReliabilityCurve
from mcdrop.metrics.calibration_tests import outcomes
from mcdrop.report.curves import Float64

__all__ = ["CalibratedDraws", "calibrated_draws", "calibration_error_estimate"]

_DRAWS = 1999


@dataclass(frozen=True)
class CalibratedDraws:
    """Outcomes drawn as the stated confidences say, R times, in the bins that hold rows.

    Attributes:
        gap: Of each bin and draw, mean confidence minus share of right rows, times the bin's share
            of rows, (R, B).
        low: Lower end of the consistency band of each bin's accuracy, (B,).
        high: Upper end of it, (B,).
    """

    gap: Float64
    low: Float64
    high: Float64

    @property
    def errors(self) -> Float64:
        """ECE of each draw, (R,)."""
        total: Float64 = np.abs(self.gap).sum(axis=1)
        return total

    def range_of_error(self, level: float) -> tuple[float, float]:
        """Central range of the ECE of a calibrated model."""
        low, high = np.quantile(self.errors, [(1 - level) / 2, (1 + level) / 2]).tolist()
        return low, high


def calibrated_draws(
    confidence: Float64, curve: ReliabilityCurve, level: float, seed: int
) -> CalibratedDraws:
    """Draw whether each row is right with the stated confidence, and sum over the curve's bins.

    Source:
        Bröcker & Smith (2007), Increasing the reliability of reliability diagrams.
    """
    bins = np.clip(np.searchsorted(curve.edges, confidence) - 1, 0, len(curve.count) - 1)
    order = np.argsort(bins, kind="stable")
    chance, starts = confidence[order], np.flatnonzero(np.diff(bins[order], prepend=-1))
    n = len(chance)
    right = [np.add.reduceat(drawn, starts, axis=1) for drawn in outcomes(chance, _DRAWS, seed)]
    count, share = np.diff(starts, append=n), np.concatenate(right) / n
    ends = np.quantile(share * n / count, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return CalibratedDraws(np.add.reduceat(chance, starts) / n - share, ends[0], ends[1])


def calibration_error_estimate(
    curve: ReliabilityCurve, calibrated: CalibratedDraws, seed: int
) -> Estimate:
    """Return the ECE with an interval that holds near 0, where a bootstrap does not.

    With e_b the sampling error of the accuracy in bin b, |ECE - truth| <= sum_b w_b |e_b|. The
    interval is the ECE plus and minus the `level` quantile of this sum, drawn with the accuracy of
    each bin moved towards 1/2 by half a row (Jeffreys), and no less than that of a calibrated
    model. So it holds a truth of 0 as often as stated, and others more often.
    """
    used = curve.count > 0
    count, accuracy = curve.count[used], curve.accuracy[used]
    share = count / count.sum()
    error = float((share * np.abs(curve.confidence[used] - accuracy)).sum())
    chance = (accuracy * count + 0.5) / (count + 1)
    draw = np.random.default_rng([seed, 4])
    drawn = draw.binomial(count, chance, size=(_DRAWS, len(count))) / count
    noise = (share * np.abs(drawn - chance)).sum(axis=1)
    reach = float(max(np.quantile(each, curve.level) for each in (noise, calibrated.errors)))
    low, high = max(0.0, error - reach), min(1.0, error + reach)
    return Estimate(
        error, low, high, float(noise.std()), curve.level, int(count.sum()), "triangle inequality"
    )
