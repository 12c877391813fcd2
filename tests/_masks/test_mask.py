"""Masks of one dropout call: unpacked, multiplied, in part or by unit, they are the same mask."""

from __future__ import annotations

import pytest
import torch

from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.numba_kernels import Compiled
from mcdrop._masks.rows import RowDim
from mcdrop._masks.source import MaskSource, Span
from tests._masks.plain_kernels import PLAIN

ROWS_FIRST = (RowDim(0, 1),)
CHUNK = Span(0, 3, 20)


def mask_of(
    shape: tuple[int, ...] = (5, 7),
    *,
    rows: tuple[RowDim, ...] | None = None,
    stratified: bool = True,
    span: Span = CHUNK,
    stacked: bool = True,
) -> DropoutMask:
    source = MaskSource(4, torch.device("cpu"), stratified=stratified)
    return DropoutMask(source, 0.4, shape, 2, span, stacked, rows)


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("rows", [None, ROWS_FIRST])
@pytest.mark.parametrize("n_passes_of_x", [1, 20])
@pytest.mark.parametrize("shape", [(5, 7), (50, 300)])
def test_products_are_those_of_the_mask_as_booleans(
    stratified: bool, rows: tuple[RowDim, ...] | None, n_passes_of_x: int, shape: tuple[int, ...]
) -> None:
    mask = mask_of(shape, rows=rows, stratified=stratified)
    x = torch.randn(n_passes_of_x, *shape, generator=torch.Generator().manual_seed(0))
    keep = mask.keep().clone()
    found = mask.times(x, 1.5)
    assert found.shape == (20, *shape)
    torch.testing.assert_close(found, torch.where(keep, x * 1.5, 0), rtol=0, atol=0)


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("rows", [None, ROWS_FIRST])
def test_a_part_is_the_mask_of_its_passes(
    stratified: bool, rows: tuple[RowDim, ...] | None
) -> None:
    mask = mask_of(rows=rows, stratified=stratified)
    whole = mask.keep().clone()
    for passes in (slice(0, 1), slice(3, 20), slice(14, 15)):
        assert torch.equal(mask.part(passes).keep(), whole[passes])


def test_a_part_does_not_write_where_the_whole_lies() -> None:
    mask = mask_of()
    x = torch.randn(20, 5, 7)
    whole = mask.times(x, 2.0)
    before = whole.clone()
    mask.part(slice(0, 4)).times(-x[:4], 3.0)
    assert torch.equal(whole, before)


@pytest.mark.parametrize("kernels", [None, PLAIN])
def test_a_single_pass_is_that_pass_of_the_chunk(
    kernels: Compiled | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcdrop._masks.source.compiled", lambda units: kernels)
    chunk = mask_of().keep().clone()
    single = mask_of(span=Span(0, 7), stacked=False)
    assert torch.equal(single.keep(), chunk[4])
    x = torch.randn(5, 7)
    torch.testing.assert_close(single.times(x, 2.0), torch.where(chunk[4], x * 2.0, 0))


def test_shared_masks_are_the_same_for_all_rows_and_any_number_of_them() -> None:
    few, many = (mask_of((n, 7), rows=ROWS_FIRST) for n in (2, 5))
    assert torch.equal(few.keep().expand(20, 2, 7), many.keep().expand(20, 5, 7)[:, :2])
    own = mask_of().keep()
    assert not torch.equal(own[:, 0], own[:, 1])


@pytest.mark.parametrize("shape", [(5, 7), (5, 1, 7)])
def test_flags_by_unit_are_those_of_every_row(shape: tuple[int, ...]) -> None:
    mask = mask_of(shape, rows=ROWS_FIRST)
    assert mask.is_one_per_unit
    by_unit = mask.by_unit()
    assert by_unit.shape == (20, 7)
    every_row = by_unit.unsqueeze(1).expand(20, 5, 7)
    assert torch.equal(every_row, mask.keep().expand(20, *shape).reshape(20, 5, 7))
    before = by_unit.clone()
    mask.source.keep(0.9, (7,), 3, Span(0, 0, 20))
    assert torch.equal(by_unit, before)


@pytest.mark.parametrize(
    ("shape", "rows", "expected"),
    [
        ((5, 7), None, False),
        ((7,), (RowDim(0, 1),), False),
        ((5, 7), ROWS_FIRST, True),
        ((5, 1, 7), ROWS_FIRST, True),
        ((5, 3, 7), ROWS_FIRST, False),
        ((5, 7), (RowDim(1, 1),), False),
        ((10, 7), (RowDim(0, 2),), False),
    ],
)
def test_one_flag_per_unit_where_units_come_last_and_rows_are_all_else(
    shape: tuple[int, ...], rows: tuple[RowDim, ...] | None, expected: bool
) -> None:
    assert mask_of(shape, rows=rows).is_one_per_unit == expected


def test_a_mask_of_channels_broadcasts_over_the_places() -> None:
    mask = mask_of((5, 7, 1))
    x = torch.randn(20, 5, 7, 3)
    found = mask.times(x, 2.0)
    assert torch.equal(found, torch.where(mask.keep(), x * 2.0, 0))
