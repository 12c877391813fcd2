"""Moments in float32: those of float64, with the digits that the passes have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcdrop._engine.deviations import Deviations
from mcdrop._engine.groups import PassGroups
from mcdrop._engine.moments import Moments

# On a grid, two and three strata, many strata; and independent passes.
GROUPS = [
    pytest.param(PassGroups(n, stratified=stratified, rates=(0.2,)), n, id=f"{n}, {stratified}")
    for n in (2, 16, 20, 31, 40, 100)
    for stratified in (True, False)
]


def both(groups: PassGroups, passes: Tensor) -> tuple[Deviations, Moments]:
    """Return the moments of passes in their own type, and in float64."""
    found, expected = Deviations(groups), Moments(groups)
    for chunk in passes.split(len(passes) if groups.on_grid else 16):
        found.update(chunk.clone())
        expected.update(chunk)
    return found, expected


def passes_of(n: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    # Spread of 1e-3 about means from 1e-6 to 1: deviations keep four digits of float32 or more.
    means = torch.logspace(-6, 0, 12, dtype=torch.float64).view(3, 4)
    spread = torch.randn(n, 3, 4, generator=generator, dtype=torch.float64)
    return (means * (1 + 1e-3 * spread)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("groups", "n"), GROUPS)
def test_moments_are_those_of_float64(groups: PassGroups, n: int, dtype: torch.dtype) -> None:
    found, expected = both(groups, passes_of(n, dtype))
    rtol = 1e-4 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(found.mean.double(), expected.mean, rtol=1e-6, atol=0)
    for name in ("variance", "mean_error", "nonlinear_share"):
        value = getattr(found, name).double()
        torch.testing.assert_close(value, getattr(expected, name), rtol=rtol, atol=1e-30)


@pytest.mark.parametrize(("groups", "n"), GROUPS)
def test_changes_are_those_of_leaving_a_group_out(groups: PassGroups, n: int) -> None:
    passes = passes_of(n, torch.float32)
    found, expected = both(groups, passes)
    sizes, changes, variances = found.changes_without_each()
    same, means, others = expected.without_each()
    assert sizes == same
    spread = passes.double().std(dim=0)
    torch.testing.assert_close(
        changes / spread, (means - expected.mean) / spread, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(variances / spread**2, others / spread**2, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n", [2, 3, 5, 16, 19, 31])
def test_excess_of_powers_is_their_difference(n: int) -> None:
    passes = passes_of(n, torch.float64)
    found, expected = both(PassGroups(n, stratified=True), passes)
    mean = expected.mean
    second, third = found.excess_powers(1 / mean)
    square, cube = expected.powers_of_mean()
    torch.testing.assert_close(second, square / mean**2 - 1, rtol=1e-6, atol=1e-14)
    torch.testing.assert_close(
        third, cube / mean**3 - 3 * square / mean**2 + 2, rtol=1e-6, atol=1e-14
    )
    # 1 - x has the mean 1 - m and deviations of the other sign.
    flipped, of_flipped = both(PassGroups(n, stratified=True), 1 - passes / 2)
    second, third = found.excess_powers(-1 / (2 - mean))
    expected_second = of_flipped.powers_of_mean()[0] / of_flipped.mean**2 - 1
    torch.testing.assert_close(second, expected_second, rtol=1e-6, atol=1e-14)
    torch.testing.assert_close(
        third, flipped.excess_powers(1 / flipped.mean)[1], atol=1e-14, rtol=0
    )


def test_passes_may_be_asked_for_means_alone() -> None:
    passes, groups = passes_of(20, torch.float64), PassGroups(20, stratified=True)
    found, whole = Deviations(groups, spread=False), Deviations(groups)
    for moments in (found, whole):
        moments.update(passes.clone())
    assert torch.equal(found.mean, whole.mean)
    assert torch.equal(found.changes_without_each()[1], whole.changes_without_each()[1])
    with pytest.raises(RuntimeError, match="no passes on a grid have been added"):
        _ = found.variance


def test_sums_over_many_chunks_lose_no_digits() -> None:
    # 2^24 + 1 is no float32: 40 sums of 2^20 about a first chunk of zeros, and one more.
    passes = torch.zeros(41 * 16, 1)
    passes[16:] = 2.0**16
    passes[-1] += 1
    found, expected = both(PassGroups(None, stratified=True), passes)
    assert torch.equal(found.mean, expected.mean)


def test_no_powers_of_passes_that_lie_on_no_grid() -> None:
    found, _ = both(PassGroups(40, stratified=True), torch.rand(40, 3))
    with pytest.raises(RuntimeError, match="no passes on a grid have been added"):
        found.excess_powers(torch.ones(3))
