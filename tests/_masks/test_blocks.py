"""Absolute addresses: every row and pass has one place, whatever is drawn with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch

from mcdrop._masks.blocks import (
    Place,
    device_lane_blocks,
    device_pattern_blocks,
    grid_blocks,
    lane_blocks,
    pattern_blocks,
    row_blocks,
    rows_per_block,
)
from mcdrop._masks.rows import RowDim

UNITS = (1, 13, 50, 512, 4096, 10**6)
LANES = (lane_blocks, device_lane_blocks)
PATTERNS = (pattern_blocks, device_pattern_blocks, grid_blocks)


@pytest.mark.parametrize("blocks", [*LANES, *PATTERNS])
@pytest.mark.parametrize("units", UNITS)
def test_a_pass_lies_in_the_same_block_whatever_is_asked_for(
    blocks: Callable[[int, int, int], Iterable[range]], units: int
) -> None:
    whole = list(blocks(0, 3000, units))
    assert whole[0].start == 0
    assert all(a.stop == b.start for a, b in itertools.pairwise(whole))
    for first, end in ((0, 1), (15, 17), (64, 100), (99, 1025), (2999, 3000)):
        expected = [block for block in whole if block.start < end and block.stop > first]
        assert list(blocks(first, end, units)) == expected


@pytest.mark.parametrize("blocks", PATTERNS)
@pytest.mark.parametrize("units", UNITS)
def test_blocks_of_patterns_are_whole_strata_in_line_with_the_cycles(
    blocks: Callable[[int, int, int], Iterable[range]], units: int
) -> None:
    for block in blocks(0, 5000, units):
        assert len(block) % 16 == 0
        assert block.start % len(block) == 0


def test_few_passes_of_large_layers_draw_no_more_than_they_need() -> None:
    assert list(pattern_blocks(0, 16, 4096)) == [range(16)]
    assert [len(block) for block in pattern_blocks(0, 10_000, 50)][-1] == 256


def test_small_networks_take_one_block_for_a_hundred_passes_on_a_device() -> None:
    assert list(device_pattern_blocks(0, 100, 512)) == [range(128)]
    lengths = [len(next(iter(device_lane_blocks(0, 1, n)))) for n in (1, 2**9, 2**13, 10**6)]
    assert lengths == [128, 128, 8, 4]


@pytest.mark.parametrize("size", [1, 8, 64])
@pytest.mark.parametrize(
    "rows",
    [
        *(range(1), range(7), range(64), range(5, 70), range(63, 64)),
        *(range(3, 90, 5), range(70, 5, -1), (3,), (2, 9, 10, 64, 200), (9, 0)),
    ],
)
def test_rows_are_found_in_their_blocks(rows: range | tuple[int, ...], size: int) -> None:
    found = np.full(len(rows), -1)
    for number, within, places in row_blocks(rows, size):
        found[places] = number * size + np.arange(size)[within]
    np.testing.assert_array_equal(found, rows)


def test_a_mask_of_a_whole_batch_is_a_row_of_its_own() -> None:
    place = Place.of((5, 7), None, 3, range(5))
    assert (place.rows, place.outer, place.inner) == ((-4,), 1, 35)
    assert Place.of((5, 7), RowDim(0, 1), 3, None) == place
    assert list(row_blocks(place.rows, 64)) == [(-4, slice(0, 1), slice(0, 1))]


@pytest.mark.parametrize(
    ("shape", "row", "outer", "inner"),
    [
        ((4, 3), RowDim(0, 1), 1, 3),
        ((5, 4, 3), RowDim(1, 1), 5, 3),
        ((8, 3), RowDim(0, 2), 1, 6),
        ((8, 3), RowDim(0, 2, rows_first=False), 2, 3),
        ((3, 8), RowDim(1, 2), 3, 2),
    ],
)
def test_units_of_a_row_lie_before_and_after_it(
    shape: tuple[int, ...], row: RowDim, outer: int, inner: int
) -> None:
    place = Place.of(shape, row, 0, range(4))
    assert (place.outer, place.inner) == (outer, inner)
    assert place.units == outer * inner
    assert place.numel == torch.Size(shape).numel()


def test_streams_hold_many_rows_of_few_units_and_one_row_of_many() -> None:
    assert rows_per_block(1, "cpu") == 2**18
    assert rows_per_block(3 * 2**10, "cpu") == 64
    assert rows_per_block(3 * 2**10, "cuda") == 1024
    assert rows_per_block(10**7, "cpu") == rows_per_block(10**7, "cuda") == 1


@pytest.mark.parametrize(
    ("blocks", "bound", "shortest"),
    [
        (pattern_blocks, 2**14, 32),
        (device_pattern_blocks, 2**20, 32),
        (lane_blocks, 2**12, 4),
        (device_lane_blocks, 2**16, 4),
    ],
)
@pytest.mark.parametrize("units", UNITS)
def test_blocks_of_wide_rows_are_short(
    blocks: Callable[[int, int, int], Iterable[range]], bound: int, shortest: int, units: int
) -> None:
    # Units times passes of a row, except in blocks of the fewest passes.
    lengths = [len(block) for block in blocks(0, 3000, units)]
    assert all(length * units <= bound or length <= shortest for length in lengths)
