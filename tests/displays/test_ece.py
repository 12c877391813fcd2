from __future__ import annotations

import numpy as np
import pytest

from mcdrop.displays._ece import calibration_error_estimate
from mcdrop.metrics import calibration_error_test, reliability_curve


@pytest.mark.parametrize("n", [50, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("truth", [0.0, 0.1])
def test_the_interval_of_the_ece_holds_the_truth(n: int, truth: float) -> None:
    # The truth is over rows of the same bins: confidence minus the chance to be right.
    draw, held = np.random.default_rng(n), 0
    for seed in range(300):
        confidence = draw.uniform(0.6, 1.0, size=n)
        right = (draw.random(n) < confidence - truth).astype(int)
        curve = reliability_curve(confidence, right, kind="binary")
        null = calibration_error_test(confidence, right, kind="binary", n_resamples=199, seed=seed)
        estimate = calibration_error_estimate(curve, null.null_high, seed)
        assert estimate.value == pytest.approx(null.statistic)
        assert estimate.low <= estimate.value <= estimate.high
        held += estimate.low <= truth <= estimate.high
    # At least 95 %, less two binomial standard errors.
    assert held / 300 >= 0.95 - 2 * (0.05 * 0.95 / 300) ** 0.5
