"""The jackknife against its definition in loops, for groups of equal and of different sizes."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from mcdrop._engine.jackknife import (
    Sizes,
    changes_without_each,
    jackknife,
    jackknife_about,
    means_without_each,
    squared_sums,
    variance_of_mean,
)

SIZES = [(1, 1, 1), (5, 5, 5, 5), (16, 16, 16, 20), (3, 1, 7, 2, 2)]


def passes(sizes: Sizes) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return passes, the same by group, and the sums of groups."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(sizes), 2, 3, generator=generator, dtype=torch.float64)
    groups = list(x.split(list(sizes)))
    return x, groups, torch.stack([group.sum(dim=0) for group in groups])


def by_definition(whole: Tensor, without: list[Tensor], sizes: Sizes) -> Tensor:
    """Busing, Meijer & van der Leeden (1999), equations for unequal groups, as a variance."""
    count, n_groups = sum(sizes), len(sizes)
    h = [count / size for size in sizes]
    center = n_groups * whole - sum((1 - 1 / each) * w for each, w in zip(h, without, strict=True))
    pseudo = [each * whole - (each - 1) * w for each, w in zip(h, without, strict=True)]
    squares = [
        (value - center).square() / (each - 1) for each, value in zip(h, pseudo, strict=True)
    ]
    return torch.stack(squares).mean(dim=0)


@pytest.mark.parametrize("sizes", SIZES)
def test_error_of_any_quantity_is_that_of_the_pseudo_values(sizes: Sizes) -> None:
    x, groups, _ = passes(sizes)
    without = [torch.cat([g for g in groups if g is not left]).std(dim=0) for left in groups]
    without = [value.nan_to_num(0.5) for value in without]
    variance = by_definition(x.std(dim=0), without, sizes)
    widened = stats.t.ppf(0.975, len(sizes) - 1) / stats.norm.ppf(0.975)
    found = jackknife(x.std(dim=0), torch.stack(without), sizes)
    torch.testing.assert_close(found, variance.sqrt() * widened)


@pytest.mark.parametrize("sizes", SIZES)
def test_sums_tell_means_without_each_group_and_the_error_of_the_mean(sizes: Sizes) -> None:
    x, groups, sums = passes(sizes)
    without = [torch.cat([g for g in groups if g is not left]).mean(dim=0) for left in groups]
    torch.testing.assert_close(means_without_each(sums, sizes), torch.stack(without))
    expected = by_definition(x.mean(dim=0), without, sizes)
    torch.testing.assert_close(variance_of_mean(sums, sizes), expected)


@pytest.mark.parametrize("sizes", SIZES)
def test_error_about_the_mean_over_groups_is_that_of_any_quantity(sizes: Sizes) -> None:
    values = torch.rand(len(sizes), 2, 3, generator=torch.Generator().manual_seed(0))
    expected = jackknife(values.mean(dim=0), values, sizes)
    torch.testing.assert_close(jackknife_about(values.clone(), sizes), expected)


@pytest.mark.parametrize("sizes", SIZES)
def test_changes_without_each_group_are_those_of_the_other_passes(sizes: Sizes) -> None:
    x, groups, sums = passes(sizes)
    squares = torch.stack([group.square().sum(dim=0) for group in groups])
    totals = sums.sum(dim=0), squares.sum(dim=0)
    others = [torch.cat([g for g in groups if g is not left]) for left in groups]
    changes, variances = changes_without_each(sums, squares, sizes, totals)
    means = torch.stack([each.mean(dim=0) for each in others])
    torch.testing.assert_close(changes, means - x.mean(dim=0))
    spread = torch.stack([each.var(dim=0, correction=0) for each in others])
    torch.testing.assert_close(variances, spread)


def test_groups_of_one_pass_give_the_error_of_the_mean() -> None:
    x, _, sums = passes((1,) * 12)
    torch.testing.assert_close(variance_of_mean(sums, (1,) * 12), x.var(dim=0) / 12)


@pytest.mark.parametrize("sizes", SIZES)
def test_squared_sums_are_divided_by_sizes(sizes: Sizes) -> None:
    _, groups, sums = passes(sizes)
    expected = torch.stack([group.sum(dim=0).square() / len(group) for group in groups])
    torch.testing.assert_close(squared_sums(sums, sizes), expected.sum(dim=0))


@pytest.mark.parametrize("sizes", [(3,), (1, 1), (20, 16)])
def test_two_groups_tell_no_error(sizes: Sizes) -> None:
    whole = torch.ones(4)
    assert jackknife(whole, torch.ones(len(sizes), 4), sizes).isnan().all()
    assert jackknife_about(torch.ones(len(sizes), 4), sizes).isnan().all()
