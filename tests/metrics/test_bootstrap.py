from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError
from mcdrop.metrics import (
    bootstrap,
    coverage,
    crps_ensemble,
    crps_normal,
    expected_calibration_error,
    mean_difference,
    mean_interval,
    nll_categorical,
    nll_normal,
    paired_bootstrap,
    rmse,
    share_difference,
    share_interval,
)
from mcdrop.metrics.means import root_estimate

RNG = np.random.default_rng(0)
MEAN, Y = RNG.normal(size=400), RNG.normal(size=400)
STD = np.ones(400)
Method = Literal["percentile", "basic", "bca"]
METHODS: tuple[Method, ...] = ("percentile", "basic", "bca")


@pytest.mark.parametrize("method", METHODS)
def test_scipy_gives_the_same_interval(method: Method) -> None:
    scores = np.random.default_rng(1).chisquare(2, 60)
    ours = bootstrap(lambda s: s, scores, n_resamples=20_000, method=method)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(2)
    )
    # The Monte Carlo error of a 2.5 % quantile of 20 000 is about 0.02 standard errors.
    slack = 0.1 * ours.standard_error
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=slack)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=slack)
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_scores_and_their_mean_give_the_same_interval(method: Method) -> None:
    by_row = bootstrap(crps_normal, MEAN, STD, Y, method=method)
    recomputed = bootstrap(lambda *a: float(np.mean(crps_normal(*a))), MEAN, STD, Y, method=method)
    assert by_row.low == pytest.approx(recomputed.low, rel=1e-12)
    assert by_row.high == pytest.approx(recomputed.high, rel=1e-12)
    assert by_row.standard_error == pytest.approx(recomputed.standard_error, rel=1e-9)


def test_standard_error_of_a_mean_is_the_textbook_one() -> None:
    scores = np.random.default_rng(3).normal(size=1000)
    ours = bootstrap(lambda s: s, scores, n_resamples=4000)
    # The spread of a standard deviation over 4000 resamples is 1.1 %.
    assert ours.standard_error == pytest.approx(scores.std() / math.sqrt(1000), rel=0.05)


def test_interval_covers_the_truth_at_its_level() -> None:
    hits = 0
    for seed in range(400):
        scores = np.random.default_rng(seed).exponential(size=80)
        ours = bootstrap(lambda s: s, scores, level=0.9, n_resamples=400, seed=seed)
        hits += ours.low <= 1.0 <= ours.high
    # Four standard errors of a share at 400 trials are 6 points; skewness costs 1 or 2.
    assert 0.83 < hits / 400 < 0.96


def test_wider_level_gives_a_wider_interval() -> None:
    narrow, wide = (bootstrap(rmse, MEAN, Y, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_same_seed_same_interval_and_global_state_is_left_alone() -> None:
    np.random.seed(5)
    torch.manual_seed(5)
    before = np.random.get_state(legacy=False)["state"]["key"].copy(), torch.get_rng_state()
    first = bootstrap(rmse, MEAN, Y, seed=3, method="bca")
    assert bootstrap(rmse, MEAN, Y, seed=3, method="bca") == first
    assert bootstrap(rmse, MEAN, Y, seed=4, method="bca").low != first.low
    assert (np.random.get_state(legacy=False)["state"]["key"] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])


def test_tensors_and_arrays_give_the_same_estimate() -> None:
    arrays = bootstrap(nll_normal, MEAN, STD, Y)
    tensors = bootstrap(nll_normal, *(torch.from_numpy(a) for a in (MEAN, STD, Y)))
    assert tensors == arrays
    assert bootstrap(rmse, torch.from_numpy(MEAN), torch.from_numpy(Y)) == bootstrap(rmse, MEAN, Y)


def test_samples_need_no_axis_where_rows_are_scored() -> None:
    samples = RNG.normal(size=(20, 50))
    by_row = bootstrap(crps_ensemble, samples, Y[:50], method="bca")
    recomputed = bootstrap(
        lambda s, y: float(np.mean(crps_ensemble(s, y))), samples, Y[:50], row_axes=(1, 0)
    )
    assert by_row.low == pytest.approx(recomputed.low, rel=1e-9)


def test_outputs_of_a_row_stay_together() -> None:
    # Two equal outputs per row hold no more information than one.
    y = Y[:, None] * np.ones(2)
    both = bootstrap(crps_normal, np.zeros((400, 2)), np.ones((400, 2)), y)
    one = bootstrap(crps_normal, np.zeros(400), np.ones(400), Y)
    assert both.standard_error == pytest.approx(one.standard_error, rel=1e-9)


def test_paired_difference_is_the_difference_of_the_values() -> None:
    worse = MEAN + 0.3
    pair = paired_bootstrap(rmse, (MEAN, Y), (worse, Y))
    assert pair.value == pytest.approx(rmse(MEAN, Y) - rmse(worse, Y))
    swapped = paired_bootstrap(rmse, (worse, Y), (MEAN, Y), method="percentile")
    straight = paired_bootstrap(rmse, (MEAN, Y), (worse, Y), method="percentile")
    assert (swapped.low, swapped.high) == pytest.approx((-straight.high, -straight.low))


def test_pairing_cancels_what_both_models_find_hard() -> None:
    hard = RNG.exponential(10, 400)
    a, b = hard, hard + 0.1
    pair = paired_bootstrap(lambda s: s, (a,), (b,))
    alone = bootstrap(lambda s: s, a)
    assert pair.value == pytest.approx(-0.1)
    assert pair.high < 0
    assert pair.standard_error < 1e-6 * alone.standard_error


def test_model_does_not_differ_from_itself() -> None:
    same = paired_bootstrap(rmse, (MEAN, Y), (MEAN, Y))
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_bias_of_a_calibration_error_is_seen_and_named() -> None:
    rng = np.random.default_rng(6)
    p = rng.uniform(0.1, 0.9, 300)
    y = rng.uniform(size=300) < p

    def error(p: np.ndarray, y: np.ndarray) -> float:
        return expected_calibration_error(p, y, kind="binary")

    chosen = bootstrap(error, p, y)
    # A calibrated model: resamples lie above the value, which "basic" turns towards 0.
    assert chosen.method == "basic"
    assert chosen.low < chosen.value
    assert bootstrap(error, p, y, method="percentile").high > chosen.high


def test_closed_forms_are_taken_where_they_are_known() -> None:
    assert bootstrap(rmse, MEAN, Y) == root_estimate((MEAN - Y) ** 2, 0.95)
    assert bootstrap(crps_normal, MEAN, STD, Y) == mean_interval(crps_normal(MEAN, STD, Y))
    inside = abs(MEAN - Y) <= 1
    assert bootstrap(coverage, MEAN - 1, MEAN + 1, Y) == share_interval(inside)
    assert bootstrap(lambda hits: hits, inside).method == "clopper-pearson"
    assert bootstrap(lambda m, y: 1 * rmse(m, y), MEAN, Y).method == "bca"
    assert bootstrap(rmse, MEAN, Y, method="bca").method == "bca"
    options = partial(rmse, weights=np.ones(400))
    assert bootstrap(options, MEAN, Y) == bootstrap(rmse, MEAN, Y)


def test_paired_closed_forms() -> None:
    other = MEAN + 0.2
    narrow, wide = ((MEAN - w, MEAN + w, Y) for w in (1.0, 1.2))
    hits = [abs(MEAN - Y) <= w for w in (1.0, 1.2)]
    assert paired_bootstrap(coverage, narrow, wide) == share_difference(*hits)
    scores = [np.asarray(crps_normal(m, STD, Y)) for m in (MEAN, other)]
    pair = paired_bootstrap(crps_normal, (MEAN, STD, Y), (other, STD, Y))
    assert pair == mean_difference(*scores)


def test_difference_of_roots_has_the_spread_that_resampling_finds() -> None:
    # To first order the two agree; at 400 rows within a few percent.
    pair = paired_bootstrap(rmse, (MEAN, Y), (0.5 * MEAN, Y))
    resampled = paired_bootstrap(rmse, (MEAN, Y), (0.5 * MEAN, Y), method="bca", n_resamples=4000)
    assert pair.value == pytest.approx(resampled.value)
    assert pair.standard_error == pytest.approx(resampled.standard_error, rel=0.08)
    perfect = paired_bootstrap(rmse, (Y, Y), (MEAN, Y))
    assert perfect.value == pytest.approx(-rmse(MEAN, Y))


def test_infinite_scores_reach_the_interval() -> None:
    probs = np.full((10, 2), 0.5)
    probs[0] = [1.0, 0.0]
    y = np.array([1] + [0] * 9)
    # A third of the resamples miss row 0: (1 - 1/10)^10 = 0.35.
    ours = bootstrap(nll_categorical, probs, y)
    assert (ours.value, ours.high, ours.standard_error) == (math.inf,) * 3
    assert ours.low == pytest.approx(math.log(2))
    assert ours.method == "percentile"
    with pytest.raises(NonFiniteError, match="`metric` to be finite, but got infinity"):
        bootstrap(nll_categorical, probs, y, method="bca")


def test_calls_that_cannot_be_are_named() -> None:
    with pytest.raises(ShapeError, match=r"arrays` to have equally many rows, but got \[20, 50\]\. "
                       r"Name the axis of the rows, such as row_axes=\(1, 0\)"):  # fmt: skip
        bootstrap(lambda s, y: 1.0, np.zeros((20, 50)), np.zeros(50))
    with pytest.raises(ShapeError, match="`arrays` to hold several rows, but got 1 of them"):
        bootstrap(rmse, [1.0], [2.0])
    with pytest.raises(ShapeError, match="`row_axes` to hold 2 axes, but got 1"):
        bootstrap(rmse, MEAN, Y, row_axes=(0,))
    with pytest.raises(ShapeError, match=r"`metric` to return 400 scores, but got shape \(2,\)"):
        bootstrap(lambda m, y: np.zeros(2), MEAN, Y)
    with pytest.raises(
        UnsupportedError, match="`metric` to return scores or a number, but got str"
    ):
        bootstrap(lambda y: "no", Y)
    with pytest.raises(NonFiniteError, match="`metric` to give a number, but got NaN for all rows"):
        bootstrap(lambda y: float("nan"), Y)
    with pytest.raises(RangeError, match=r"`level` to lie in \(0, 1\), but got 95"):
        bootstrap(rmse, MEAN, Y, level=95)
    with pytest.raises(RangeError, match="`n_resamples` to be an integer of at least 2"):
        bootstrap(rmse, MEAN, Y, n_resamples=1)
    with pytest.raises(RangeError, match='`method` to be one of "auto", "percentile"'):
        bootstrap(rmse, MEAN, Y, method="BCa")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="paired_bootstrap: expected `arrays_b` to hold 400 rows"):
        paired_bootstrap(rmse, (MEAN, Y), (MEAN[:9], Y[:9]))


def test_coverage_is_a_number_with_an_interval() -> None:
    ours = bootstrap(coverage, MEAN - 2, MEAN + 2, Y)
    share = coverage(MEAN - 2, MEAN + 2, Y)
    # The standard error of a share.
    assert ours.standard_error == pytest.approx(math.sqrt(share * (1 - share) / 400), rel=0.1)
