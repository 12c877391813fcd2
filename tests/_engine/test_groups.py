"""Passes are counted to the group or stratum that their number says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mcdrop._engine.groups import GroupedPasses, Membership, PassGroups
from mcdrop._masks.pairs import pair_correlations


def indicators(passes: GroupedPasses, n_groups: int) -> Tensor:
    """Return ones where a pass belongs to a group, by adding one pass at a time."""
    values = torch.eye(passes.count, dtype=torch.float64)
    return Membership.of(passes, n_groups).add(torch.zeros(0), values, 0)


@pytest.mark.parametrize("count", [1, 3, 2000])
def test_single_passes_take_turns(count: int) -> None:
    found = indicators(GroupedPasses(5, count, -1), 4)
    expected = torch.zeros(4, count, dtype=torch.float64)
    for place in range(count):
        expected[(5 + place) % 4, place] = 1
    used = expected.any(dim=1)
    assert torch.equal(found[used], expected[used])


def test_small_ones_are_made_once() -> None:
    first = Membership.of(GroupedPasses(0, 7, -1), 3)
    assert Membership.of(GroupedPasses(0, 7, -1), 3) is first
    large = Membership.of(GroupedPasses(0, 2000, -1), 3)
    assert Membership.of(GroupedPasses(0, 2000, -1), 3) is not large


def test_an_incomplete_last_stratum_joins_the_one_before() -> None:
    # 40 passes are two strata and a half.
    assert GroupedPasses(0, 40, 2).numbers().tolist() == [0] * 16 + [1] * 24
    assert GroupedPasses(0, 40, None).numbers().tolist() == [0] * 16 + [1] * 16 + [2] * 8


@pytest.mark.parametrize("steps", [(40,), (3, 1, 16, 20), (16, 16, 8), (1,) * 40])
@pytest.mark.parametrize("strata", [-1, 2, None])
def test_sums_do_not_depend_on_chunks(steps: tuple[int, ...], strata: int | None) -> None:
    values = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    numbers = torch.from_numpy(GroupedPasses(0, 40, strata).numbers()) % 5
    total, first = torch.zeros(0), 0
    for chunk in values.split(list(steps)):
        n_begun = len(numbers[:first].unique())
        total = Membership.of(GroupedPasses(first, len(chunk), strata), 5).add(
            total, chunk, n_begun
        )
        first += len(chunk)
    for group in numbers.unique():
        torch.testing.assert_close(total[group], values[numbers == group].sum(dim=0))


@pytest.mark.parametrize("count", [1, 3, 16, 31, 40, 47, 100, 1000])
@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_sizes_count_the_passes_of_every_group(count: int, stratified: bool, known: bool) -> None:
    groups = PassGroups(count if known else None, stratified=stratified)
    counted = groups.of(0, count, 16).add(torch.zeros(0), torch.ones(count, 1), 0)[:, 0]
    sizes = groups.sizes(count, 16)
    assert sizes == tuple(counted[: len(sizes)].tolist())
    assert sum(sizes) == count


@pytest.mark.parametrize(("count", "sizes"), [(32, (16, 16)), (47, (16, 31)), (63, (16, 16, 31))])
def test_two_or_three_strata_have_sizes_of_their_own(count: int, sizes: tuple[int, ...]) -> None:
    groups = PassGroups(count, stratified=True)
    assert groups.few_strata == len(sizes)
    assert groups.sizes_of_strata(count) == sizes


@pytest.mark.parametrize(
    ("n_samples", "n_groups"), [(32, 2), (40, 2), (64, 16), (100, 16), (80, 4)]
)
def test_squares_about_group_means_are_sums_over_pairs(n_samples: int, n_groups: int) -> None:
    groups = PassGroups(n_samples, stratified=True)
    strata = torch.arange(n_samples) // 16
    members = strata.clamp_max(n_samples // 16 - 1) % n_groups
    same = others = 0.0
    for i, j in torch.combinations(torch.arange(n_samples)).tolist():
        if members[i] == members[j]:
            # (x - x')^2 / n, in units of (x - x')^2 / 2.
            weight = 2 / int((members == members[i]).sum())
            same, others = (
                (same + weight, others) if strata[i] == strata[j] else (same, others + weight)
            )
    assert groups.shares_of_pairs(n_samples, n_groups) == pytest.approx((same, others))


def test_sites_of_different_rates_are_averaged() -> None:
    groups = PassGroups(64, stratified=True, rates=(0.1, math.nan, 0.3))
    pairs = pair_correlations(0.1, 64), pair_correlations(0.3, 64)
    expected = [(a + b) / 2 for a, b in zip(*pairs, strict=True)]
    assert groups.correlations(64) == pytest.approx(expected)


@pytest.mark.parametrize(
    "groups",
    [
        PassGroups(64, stratified=True),
        PassGroups(64, rates=(0.1,)),
        PassGroups(16, stratified=True, rates=(0.1,)),
        PassGroups(64, stratified=True, rates=(math.nan,)),
    ],
)
def test_strata_that_are_not_compared_have_no_correlation(groups: PassGroups) -> None:
    assert groups.correlations(64) == (0, 0)


@pytest.mark.parametrize(
    ("first", "count", "in_turn"), [(0, 20, True), (0, 5, True), (4, 5, False)]
)
def test_passes_in_turn_are_summed_without_a_product(first: int, count: int, in_turn: bool) -> None:
    member = PassGroups(40).of(first, count, 8)
    values = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    assert member.in_turn is in_turn
    expected = member.matrix.times(values)
    sums = member.sums(values)
    torch.testing.assert_close(sums, expected)
    torch.testing.assert_close(member.sums(values.clone(), overwrites=True), expected)
    # By default they are new memory, as the values may be overwritten.
    values.zero_()
    torch.testing.assert_close(sums, expected)


def test_strata_are_not_in_turn() -> None:
    assert not PassGroups(64, stratified=True).of(0, 32, 4).in_turn
