"""Rank correlation of uncertainty and error against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mcdrop.errors import RangeError, ShapeError
from mcdrop.metrics import ranking_test

RNG = np.random.default_rng(0)


def test_ranking_is_spearman_and_two_sided() -> None:
    u, loss = RNG.normal(size=40), np.round(RNG.normal(size=40))
    found = ranking_test(u, loss=loss)
    assert found.statistic == pytest.approx(stats.spearmanr(u, loss).statistic)
    # Three standard errors of a share over 999 permutations.
    theirs = stats.spearmanr(u, loss).pvalue
    assert found.p_value == pytest.approx(theirs, abs=3 * float(np.sqrt(theirs / 999)) + 0.01)
    assert ranking_test(u, loss=u).direction == "rising"
    backwards = ranking_test(u, loss=-u)
    assert (backwards.direction, backwards.p_value) == ("falling", 0.001)


def test_ranking_of_many_rows_takes_the_t_distribution() -> None:
    u = RNG.normal(size=3000)
    loss = 0.05 * u + RNG.normal(size=3000)
    assert ranking_test(u, loss=loss).p_value == pytest.approx(stats.spearmanr(u, loss).pvalue)
    assert ranking_test(u, loss=u).p_value == 0.0


def test_constant_uncertainty_ranks_nothing() -> None:
    found = ranking_test(np.ones(9), loss=np.arange(9))
    assert (found.statistic, found.p_value, found.direction) == (0.0, 1.0, "none")


@pytest.mark.parametrize("copies", [1, 400])
def test_a_correlation_of_nothing_has_no_direction(copies: int) -> None:
    # Ranks 1, 2, 3 against 1.5, 3, 1.5: the middle row alone is off, and it has the mean rank.
    # Copies of the rows, 1200 of them by Student's t, change no correlation.
    u, loss = np.tile([0.1, 0.2, 0.3], copies), np.tile([0.0, 1.0, 0.0], copies)
    found = ranking_test(u, loss=loss)
    assert (found.statistic, found.p_value, found.direction) == (0.0, 1.0, "none")


def test_calls_that_cannot_be_are_named() -> None:
    with pytest.raises(ShapeError, match=r"ranking_test: expected `loss` to have shape \(N,\)"):
        ranking_test(np.zeros((2, 2)), loss=np.zeros((2, 2)))
    with pytest.raises(RangeError, match="`n_resamples` to be an integer of at least 19"):
        ranking_test([1.0, 2.0], loss=[1.0, 2.0], n_resamples=1)
