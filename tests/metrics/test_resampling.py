"""Resampled statistics: shared draws, differences and the options of an interval."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop.errors import RangeError
from mcdrop.metrics._resampling import Resampler, _median_bias, statistic

SCORES = np.random.default_rng(0).exponential(size=30)


def test_statistic_of_scores_is_their_mean_on_any_rows() -> None:
    found = statistic("f", lambda s: s, (SCORES,), None)
    rows = np.array([[0, 0, 1], [2, 3, 4]])
    assert (found.value, found.n) == (SCORES.mean(), 30)
    np.testing.assert_allclose(found.on(rows), [SCORES[[0, 0, 1]].mean(), SCORES[2:5].mean()])


def test_zeros_and_ones_are_a_share_and_other_scores_a_mean() -> None:
    for scores, kind in (([0.0, 1.0], "share"), ([1.0, 1.0], "share"), ([0.0, 2.0], "mean")):
        found = statistic("f", lambda s: s, (np.array(scores),), None).row_mean
        assert found is not None
        assert found.kind == kind


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


def test_resamples_do_not_depend_on_how_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = statistic("f", lambda s: s, (SCORES,), None)
    resampler = Resampler("f", 0.9, 200, 0, "percentile")
    whole = resampler._replicates(found)
    # Seven resamples of 30 rows at a time, and four in the end.
    monkeypatch.setattr("mcdrop.metrics._resampling._DRAWN_AT_ONCE", 7 * 30)
    assert len(whole) == 200
    np.testing.assert_array_equal(resampler._replicates(found), whole)


def test_the_acceleration_of_a_mean_is_a_sixth_of_the_skewness_of_its_error() -> None:
    # Without row i the mean is off by (x_i - mean) / (n - 1), whose common factor cancels.
    found = statistic("f", lambda s: s, (SCORES,), None)
    off = SCORES - SCORES.mean()
    want = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
    assert Resampler("f", 0.9, 200, 0, "bca")._acceleration(found) == pytest.approx(want)


def test_shares_of_bca_are_those_of_its_formula() -> None:
    found = statistic("f", lambda s: s, (SCORES,), None)
    resampler, normal = Resampler("f", 0.9, 200, 0, "bca"), NormalDist()
    a, bias = resampler._acceleration(found), 0.3
    # Efron (1987): Phi(b + (b + z) / (1 - a (b + z))).
    points = [bias + normal.inv_cdf(share) for share in (0.05, 0.95)]
    want = [normal.cdf(bias + point / (1 - a * point)) for point in points]
    assert resampler._bca_shares(found, bias, np.array([0.05, 0.95])) == pytest.approx(want)


def test_intervals_are_quantiles_of_the_resamples_or_their_mirror_image() -> None:
    found = statistic("f", lambda s: s, (SCORES,), None)
    draws = np.random.default_rng(5).integers(30, size=(200, 30))
    means = SCORES[draws].mean(axis=1)
    low, high = np.quantile(means, [0.05, 0.95])
    percentile = Resampler("f", 0.9, 200, 5, "percentile").interval(found)
    assert percentile[:3] == pytest.approx((low, high, means.std(ddof=1)))
    basic = Resampler("f", 0.9, 200, 5, "basic").interval(found)
    assert basic[:2] == pytest.approx((2 * SCORES.mean() - high, 2 * SCORES.mean() - low))


def test_among_infinite_resamples_ends_are_taken_and_not_interpolated() -> None:
    # Of 21 values the shares 0.125 and 0.875 fall between the third and fourth, and at 17.5 from
    # the first; the next ones above count. At a level of 0.95 the upper end is the infinite one.
    values = np.append(np.arange(20.0), np.inf)
    assert Resampler("f", 0.75, 21, 0, "auto")._infinite(values) == (3.0, 18.0)
    assert Resampler("f", 0.95, 21, 0, "auto")._infinite(values) == (1.0, np.inf)


def test_a_metric_is_given_tensors_for_tensors_and_arrays_for_the_rest() -> None:
    kinds = []

    def metric(*arrays: object) -> float:
        kinds.append([type(each) for each in arrays])
        return 0.0

    found = statistic("f", metric, (torch.zeros(2), [0.0, 1.0], np.zeros(2)), None)
    found.on(np.array([[0, 1]]))
    assert kinds == [[torch.Tensor, np.ndarray, np.ndarray]] * 2
