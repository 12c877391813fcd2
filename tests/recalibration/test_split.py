"""Ranks, groups and the number of rows that a level takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mcdrop
from mcdrop.recalibration._split import Groups, sorted_scores, thresholds


def limits(scores: list[float], level: float) -> float:
    groups = Groups("f", None, len(scores))
    ranked = sorted_scores(torch.tensor(scores)[:, None], groups)
    return thresholds("f", "y", ranked, groups.names, level).item()


@pytest.mark.parametrize(
    ("n", "level", "rank"), [(4, 0.8, 4), (4, 0.5, 3), (9, 0.9, 9), (99, 0.07, 7), (19, 0.95, 19)]
)
def test_rank_is_the_ceiling_of_n_plus_one_times_the_level(n: int, level: float, rank: int) -> None:
    # In floats 100 * 0.07 = 7.000000000000001, whose ceiling is 8: the level counts as written.
    assert limits(list(range(n, 0, -1)), level) == rank


@given(st.integers(1, 300), st.integers(1, 99))
def test_too_few_rows_are_exactly_those_with_no_such_rank(n: int, percent: int) -> None:
    # ceil((n + 1) k / 100) <= n in whole numbers.
    enough = -(-(n + 1) * percent // 100) <= n
    if enough:
        limits([0.0] * n, percent / 100)
    else:
        with pytest.raises(mcdrop.RangeError, match="have at least .* calibration rows"):
            limits([0.0] * n, percent / 100)


def test_groups_and_outputs_are_sorted_apart() -> None:
    groups = Groups("f", ["a", "b", "a"], 3)
    ranked = sorted_scores(torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 5.0]]), groups)
    assert ranked == (((1.0, 3.0), (1.0, 5.0)), ((2.0,), (2.0,)))
    assert groups.names == ("a", "b")
    assert groups.index("f", np.array(["b", "b", "a"]), 3).tolist() == [1, 1, 0]


def test_groups_without_a_name_are_refused() -> None:
    with pytest.raises(mcdrop.NonFiniteError, match=r"name a group for every row.*rows \[1\]"):
        Groups("f", ["a", None], 2)
