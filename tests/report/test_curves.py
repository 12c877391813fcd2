from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcdrop.report.curves import equal_groups, wilson_interval


@given(st.lists(st.integers(0, 6), min_size=2, max_size=300))
def test_groups_are_ordered_disjoint_and_never_split_equal_values(values: list[int]) -> None:
    array = np.array(values, dtype=float)
    groups = equal_groups(array)
    rows = np.concatenate(groups)
    assert len(set(rows.tolist())) == len(rows)
    for left, right in itertools.pairwise(groups):
        assert array[left].max() < array[right].min()
    assert 1 <= len(groups) <= 10
    assert min(len(group) for group in groups) >= 2


@given(st.integers(2, 400))
def test_distinct_values_lose_no_row_and_fill_groups_evenly(n: int) -> None:
    groups = equal_groups(np.random.default_rng(n).permutation(n).astype(float))
    sizes = [len(group) for group in groups]
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1
    assert len(groups) == min(10, max(1, n // 20))


def test_a_constant_is_one_group_even_after_float32_arithmetic() -> None:
    values = 3.7 + 1e-7 * np.random.default_rng(0).normal(size=500)
    assert [len(group) for group in equal_groups(values)] == [500]


def test_wilson_interval_of_eight_in_ten() -> None:
    # By hand, z = 1.959964: center (8 + z^2/2) / (10 + z^2) = 0.71674,
    # half width z sqrt(8 * 2 / 10 + z^2 / 4) / (10 + z^2) = 0.22658.
    assert wilson_interval(0.8, 10, 0.95) == pytest.approx((0.49016, 0.94332), abs=1e-5)


def test_wilson_interval_stays_inside_the_unit_interval() -> None:
    low, high = wilson_interval(0.0, 20, 0.95)
    assert low == 0
    assert 0 < high < 0.2
