from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mcdrop.displays._curve import equal_groups


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
