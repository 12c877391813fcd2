from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from mcdrop.metrics import expected_calibration_error, reliability_curve
from mcdrop.report.calibrated import calibrated_draws, calibration_error_estimate


def test_the_band_is_binomial_where_a_bin_has_one_confidence() -> None:
    confidence = np.array([0.7] * 40 + [0.95] * 100)
    curve = reliability_curve(confidence, np.ones(140), kind="binary", n_bins=15)
    drawn = calibrated_draws(confidence, curve, 0.95, 0)
    for i, (p, n) in enumerate([(0.7, 40), (0.95, 100)]):
        low, high = (end / n for end in binom.interval(0.95, n, p))
        # A quantile of 1999 draws may fall on the neighboring count.
        assert abs(drawn.low[i] - low) < 1.5 / n
        assert abs(drawn.high[i] - high) < 1.5 / n


def test_draws_have_the_mean_and_the_bins_of_the_stated_probabilities() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.3, 1.0, size=500)
    curve = reliability_curve(confidence, np.ones(500), kind="binary", n_bins=15)
    drawn = calibrated_draws(confidence, curve, 0.95, 0)
    assert drawn.gap.shape == (1999, int((curve.count > 0).sum()))
    # Standard deviation of a bin's gap is below sqrt(n_b / 4) / N, that of its mean 45 times less.
    bound = 4 * np.sqrt(curve.count[curve.count > 0] / 4) / 500 / np.sqrt(1999)
    assert (np.abs(drawn.gap.mean(axis=0)) < bound).all()


def test_the_null_of_the_ece_is_its_distribution_under_drawn_labels() -> None:
    draw = np.random.default_rng(1)
    confidence = draw.uniform(0.5, 1.0, size=100)
    curve = reliability_curve(confidence, np.ones(100), kind="binary")
    errors = calibrated_draws(confidence, curve, 0.95, 0).errors
    plain = [
        expected_calibration_error(
            confidence, (draw.random(100) < confidence).astype(int), kind="binary"
        )
        for _ in range(300)
    ]
    scale = float(np.std(plain)) / 300**0.5
    assert float(errors.mean()) == pytest.approx(float(np.mean(plain)), abs=4 * scale)


@pytest.mark.parametrize("n", [50, 500])
@pytest.mark.parametrize("truth", [0.0, 0.1])
def test_the_interval_of_the_ece_holds_the_truth(n: int, truth: float) -> None:
    # The truth is over rows of the same bins: confidence minus the chance to be right.
    draw, held = np.random.default_rng(n), 0
    for seed in range(300):
        confidence = draw.uniform(0.6, 1.0, size=n)
        right = (draw.random(n) < confidence - truth).astype(int)
        curve = reliability_curve(confidence, right, kind="binary")
        drawn = calibrated_draws(confidence, curve, 0.95, seed)
        estimate = calibration_error_estimate(curve, drawn, seed)
        assert estimate.low <= estimate.value <= estimate.high
        held += estimate.low <= truth <= estimate.high
    # At least 95 %, less two binomial standard errors.
    assert held / 300 >= 0.95 - 2 * (0.05 * 0.95 / 300) ** 0.5
