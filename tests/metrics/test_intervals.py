from __future__ import annotations

import numpy as np
import pytest
import scoringrules
from scipy import integrate, stats
from sklearn.metrics import mean_pinball_loss

from mcdrop.errors import RangeError
from mcdrop.metrics import (
    coverage,
    crps_normal,
    interval_score,
    interval_width,
    mae,
    pinball_loss,
)

RNG = np.random.default_rng(0)
LOWER, WIDTH, Y = RNG.normal(size=40), RNG.uniform(0, 2, 40), RNG.normal(size=40)
UPPER = LOWER + WIDTH


def test_ends_count_as_inside() -> None:
    assert coverage([0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.5, 0.5]) == 0.75


def test_an_interval_may_be_a_point() -> None:
    # Width 0 at level 0.8, so 2 / a = 10: hit, and missed by 1.
    assert interval_score([1.0, 1.0], [1.0, 1.0], [1.0, 2.0], level=0.8) == pytest.approx([0, 10])
    with pytest.raises(RangeError, match=r"a crossed interval in row 1\."):
        interval_score([1.0, 1.0], [1.0, 0.9], [1.0, 2.0], level=0.8)


def test_exact_intervals_cover_their_level() -> None:
    y = np.random.default_rng(1).normal(size=20_000)
    for level in (0.5, 0.9):
        half = np.full_like(y, stats.norm.ppf((1 + level) / 2))
        # Four standard errors of a share.
        error = 4 * np.sqrt(level * (1 - level) / 20_000)
        assert coverage(-half, half, y) == pytest.approx(level, abs=error)


def test_width_and_misses_by_hand() -> None:
    # Width 2, level 0.8 so 2 / a = 10: inside 2; 0.5 below 2 + 5; 0.1 above 2 + 1.
    score = interval_score([0.0] * 3, [2.0] * 3, [1.0, -0.5, 2.1], level=0.8)
    np.testing.assert_allclose(score, [2.0, 7.0, 3.0], rtol=1e-12)
    assert interval_width([0.0], [2.0]).tolist() == [2.0]


def test_interval_score_is_the_sum_of_two_pinball_losses() -> None:
    # IS_a = (2 / a) (loss at a / 2 + loss at 1 - a / 2).
    level, a = 0.7, 0.3
    both = pinball_loss(LOWER, Y, q=a / 2) + pinball_loss(UPPER, Y, q=1 - a / 2)
    np.testing.assert_allclose(interval_score(LOWER, UPPER, Y, level=level), 2 / a * both)


def test_scoringrules_and_scikit_learn_agree() -> None:
    np.testing.assert_allclose(
        interval_score(LOWER, UPPER, Y, level=0.9),
        scoringrules.interval_score(Y, LOWER, UPPER, 0.1),
    )
    loss = pinball_loss(LOWER, Y, q=0.2)
    np.testing.assert_allclose(loss, scoringrules.quantile_score(Y, LOWER, 0.2))
    assert np.mean(loss) == pytest.approx(mean_pinball_loss(Y, LOWER, alpha=0.2))


def test_median_loss_is_half_the_absolute_error() -> None:
    assert np.mean(pinball_loss(LOWER, Y, q=0.5)) == pytest.approx(mae(LOWER, Y) / 2)


def test_pinball_loss_over_all_levels_is_half_the_crps() -> None:
    def loss(q: float) -> float:
        return float(pinball_loss([stats.norm.ppf(q)], [0.8], q=q)[0])

    total, _ = integrate.quad(loss, 0, 1, points=[stats.norm.cdf(0.8)])
    assert 2 * total == pytest.approx(crps_normal([0.0], [1.0], [0.8])[0], rel=1e-6)


def test_true_quantile_minimizes_the_expected_loss() -> None:
    y = np.random.default_rng(2).normal(size=200_000)
    best = stats.norm.ppf(0.8)
    losses = {d: np.mean(pinball_loss(np.full_like(y, best + d), y, q=0.8)) for d in (-0.1, 0, 0.1)}
    assert min(losses, key=lambda d: losses[d]) == 0


def test_true_quantiles_minimize_the_expected_interval_score() -> None:
    y = np.random.default_rng(3).normal(size=200_000)
    half = stats.norm.ppf(0.9)
    scores = {
        d: np.mean(
            interval_score(np.full_like(y, -half - d), np.full_like(y, half + d), y, level=0.8)
        )
        for d in (-0.1, 0, 0.1)
    }
    assert min(scores, key=lambda d: scores[d]) == 0


def test_levels_and_crossed_ends_are_named() -> None:
    with pytest.raises(RangeError, match=r"`level` to lie in \(0, 1\), but got 90\. Write ninety"):
        interval_score([0.0], [1.0], [0.5], level=90)
    with pytest.raises(RangeError, match=r"`q` to lie in \(0, 1\), but got 1"):
        pinball_loss([0.0], [1.0], q=1)
    with pytest.raises(RangeError, match="`upper` to be at least `lower`, but got a crossed"):
        coverage([0.0, 2.0], [1.0, 1.0], [0.5, 0.5])
