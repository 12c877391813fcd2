"""Where uncertainty-toolbox means the same, it gives the same; where it does not, the reason."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from uncertainty_toolbox import metrics_calibration as toolbox_calibration
from uncertainty_toolbox import metrics_scoring_rule as toolbox_scores

from mcdrop import metrics

RNG = np.random.default_rng(0)
N = 400
MEAN, STD = RNG.normal(size=N), RNG.uniform(0.5, 2.0, size=N)
Y = MEAN + 0.8 * STD * RNG.normal(size=N)


def test_crps_of_the_normal_agrees() -> None:
    theirs = toolbox_scores.crps_gaussian(MEAN, STD, Y)
    assert metrics.crps_normal(MEAN, STD, Y).mean() == pytest.approx(theirs, rel=1e-10)


def test_negative_log_likelihood_of_the_normal_agrees() -> None:
    theirs = toolbox_scores.nll_gaussian(MEAN, STD, Y)
    assert metrics.nll_normal(MEAN, STD, Y).mean() == pytest.approx(theirs, rel=1e-10)


def test_sharpness_agrees() -> None:
    assert metrics.sharpness(STD) == pytest.approx(toolbox_calibration.sharpness(STD), rel=1e-12)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_coverage_of_central_intervals_agrees(level: float) -> None:
    reach = stats.norm.ppf(0.5 + level / 2) * STD
    theirs = toolbox_calibration.get_proportion_in_interval(MEAN, STD, Y, level)
    assert metrics.coverage(MEAN - reach, MEAN + reach, Y) == pytest.approx(theirs, abs=1e-12)


def test_interval_score_is_the_mean_over_their_levels() -> None:
    theirs = toolbox_scores.interval_score(MEAN, STD, Y)
    ours = []
    for level in np.linspace(0.01, 0.99, 99):
        reach = float(stats.norm.ppf(0.5 + level / 2)) * STD
        ours.append(metrics.interval_score(MEAN - reach, MEAN + reach, Y, level=level).mean())
    assert np.mean(ours) == pytest.approx(theirs, rel=1e-9)


def test_their_share_under_a_quantile_has_the_other_sign() -> None:
    # Forecasts that are far too high: every target lies below their 10 % quantile.
    high = Y + 10
    std = np.ones(N)
    observed = float((stats.norm.ppf(0.1, high, std) > Y).mean())
    assert observed == 1.0
    assert toolbox_calibration.get_proportion_under_quantile(high, std, Y, 0.1) == 0.0
