"""Resampled statistics: shared draws, differences and the options of an interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mcdrop.errors import RangeError
from mcdrop.metrics._resampling import Resampler, _median_bias, statistic

SCORES = np.random.default_rng(0).exponential(size=30)


def test_statistic_of_scores_is_their_mean_on_any_rows() -> None:
    found = statistic("f", lambda s: s, (SCORES,), None)
    rows = np.array([[0, 0, 1], [2, 3, 4]])
    assert (found.value, found.n) == (SCORES.mean(), 30)
    np.testing.assert_allclose(found.on(rows), [SCORES[[0, 0, 1]].mean(), SCORES[2:5].mean()])


def test_difference_of_statistics_sees_the_same_rows() -> None:
    first = statistic("f", lambda s: s, (SCORES,), None)
    second = statistic("f", lambda s: s, (SCORES - 1,), None)
    rows = np.random.default_rng(1).integers(30, size=(9, 30))
    np.testing.assert_allclose(first.minus(second).on(rows), np.ones(9))


def test_method_is_chosen_and_named() -> None:
    found = statistic("f", lambda s: s, (SCORES,), None)
    assert Resampler("f", 0.9, 200, 0, "auto").interval(found)[3] == "bca"
    assert Resampler("f", 0.9, 200, 0, "basic").interval(found)[3] == "basic"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((1.5, 200, 0, "auto"), r"`level` to lie in \(0, 1\)"),
        ((0.9, 1, 0, "auto"), "`n_resamples` to be an integer of at least 2"),
        ((0.9, 200, 0, "boot"), '`method` to be one of "auto"'),
    ],
)
def test_options_are_checked(options: tuple[float, int, int, str], text: str) -> None:
    with pytest.raises(RangeError, match=text):
        Resampler("f", *options)


def test_the_bias_of_the_median_is_finite_where_all_resamples_lie_on_one_side() -> None:
    values = np.linspace(0, 1, 10)
    # Half a resample is taken to lie on the other side.
    assert _median_bias(values, 2.0) == pytest.approx(stats.norm.ppf(0.95))
    assert _median_bias(values, -1.0) == pytest.approx(stats.norm.ppf(0.05))
    assert _median_bias(values, 0.5) == pytest.approx(0.0, abs=1e-12)
