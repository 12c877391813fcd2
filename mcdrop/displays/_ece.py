"""The interval of the expected calibration error."""

from __future__ import annotations

import numpy as np

from mcdrop.metrics import Estimate, ReliabilityCurve

__all__ = ["calibration_error_estimate"]

_DRAWS = 1999


def calibration_error_estimate(curve: ReliabilityCurve, null_high: float, seed: int) -> Estimate:
    """Return the ECE with an interval that holds near 0, where a bootstrap does not.

    With e_b the sampling error of the accuracy in bin b, |ECE - truth| <= sum_b w_b |e_b|. The
    interval is the ECE plus and minus the `level` quantile of this sum, drawn with the accuracy of
    each bin moved towards 1/2 by half a row (Jeffreys), and no less than `null_high`: so it holds
    a truth of 0 at least as often as stated.

    Args:
        curve: Accuracy in bins of confidence, with the level of the interval.
        null_high: Upper end of the range of the ECE of a calibrated model at that level.
        seed: Seed of the draws.
    """
    used = curve.count > 0
    count, accuracy = curve.count[used], curve.accuracy[used]
    share = count / count.sum()
    error = float((share * np.abs(curve.confidence[used] - accuracy)).sum())
    chance = (accuracy * count + 0.5) / (count + 1)
    draw = np.random.default_rng([seed, 4])
    drawn = draw.binomial(count, chance, size=(_DRAWS, len(count))) / count
    noise = (share * np.abs(drawn - chance)).sum(axis=1)
    reach = max(float(np.quantile(noise, curve.level)), null_high)
    low, high = max(0.0, error - reach), min(1.0, error + reach)
    return Estimate(
        error, low, high, float(noise.std()), curve.level, int(count.sum()), "triangle inequality"
    )
