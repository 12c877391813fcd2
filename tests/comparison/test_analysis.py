"""Ranks, equal losses and differences of losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop.comparison.analysis import Analysis, identical, loss_difference, mean_ranks
from mcdrop.comparison.scores import SplitScore


def score(values: list[float]) -> SplitScore:
    losses = torch.tensor(values).double()
    return SplitScore(lambda rows: rows, (losses,), losses)


def test_ranks_share_ties_and_follow_the_direction() -> None:
    methods = {
        "a": [score([1.0]), score([1.0])],
        "b": [score([1.0]), score([2.0])],
        "c": [score([3.0]), score([3.0])],
    }
    assert mean_ranks(methods, "nll") == {"a": 1.25, "b": 1.75, "c": 3.0}
    assert mean_ranks(methods, "accuracy") == {"a": 2.75, "b": 2.25, "c": 1.0}
    assert mean_ranks({}, "nll") == {}


def test_identical_means_in_every_row() -> None:
    assert identical([score([1.0, 2.0])], [score([1.0, 2.0])])
    assert not identical([score([1.0, 2.0])], [score([2.0, 1.0])])


def test_a_single_split_is_students_paired_test_over_rows() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=20), rng.normal(size=20)
    found = loss_difference([torch.from_numpy(a)], [torch.from_numpy(b)], 0.25, 0.95)
    assert found.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue)
    same = loss_difference([torch.from_numpy(a)], [torch.from_numpy(a)], 0.25, 0.95)
    assert same.p_value == 1.0


def test_shares_stay_between_zero_and_one() -> None:
    scores = [score([1.0, 1.0]), score([1.0, 0.0])]
    analysis = Analysis(0.25, 0.95, 0)
    assert analysis.estimate("accuracy", scores).high == 1.0
    assert analysis.estimate("nll", scores).high > 1.0
