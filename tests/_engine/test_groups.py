"""Passes are counted to the group or stratum that their number says."""

from __future__ import annotations

import pytest
import torch

from mcdrop._engine.groups import GroupedPasses, column, indicators, plus

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [3, 2000])
def test_single_passes_take_turns(count: int) -> None:
    found = indicators(GroupedPasses(5, count, -1), 4, torch.float64, CPU)
    expected = torch.zeros(4, count, dtype=torch.float64)
    for place in range(count):
        expected[(5 + place) % 4, place] = 1
    assert torch.equal(found, expected)


def test_small_ones_are_made_once_also_inside_inference_mode() -> None:
    with torch.inference_mode():
        first = indicators(GroupedPasses(0, 7, -1), 3, torch.float32, CPU)
    assert indicators(GroupedPasses(0, 7, -1), 3, torch.float32, CPU) is first
    assert not first.is_inference()
    large = indicators(GroupedPasses(0, 2000, -1), 3, torch.float32, CPU)
    assert indicators(GroupedPasses(0, 2000, -1), 3, torch.float32, CPU) is not large


def test_an_incomplete_last_stratum_joins_the_one_before() -> None:
    # 40 passes are two strata and a half.
    assert GroupedPasses(0, 40, 2).numbers(CPU).tolist() == [0] * 16 + [1] * 24
    assert GroupedPasses(0, 40, None).numbers(CPU).tolist() == [0] * 16 + [1] * 16 + [2] * 8


def test_numbers_of_the_host_stand_beside_groups() -> None:
    counts = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert torch.equal(column(counts, torch.zeros(2, 5, 6)), torch.tensor([[[3.0]], [[4.0]]]))


def test_a_sum_begins_empty() -> None:
    total = plus(torch.zeros(0), torch.ones(2))
    assert torch.equal(plus(total, torch.ones(2)), torch.full((2,), 2.0))
