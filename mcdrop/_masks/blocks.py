"""Absolute addresses of masks: which stream holds the bits of a row and a pass, and where in it.

A stream of random bits serves a block of rows and a block of passes of one site. Both depend on
the units of one row alone, so that the mask of a row and a pass does not depend on the rows and
passes drawn with it. Starting a stream costs as much as drawing 10,000 to 20,000 bits of 16, so
blocks hold about as many units. A batch that ends within a block of rows draws a part of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcdrop._masks.rows import RowDim, RowNumbers
from mcdrop._masks.stratified import CYCLE, STRATUM

__all__ = [
    "Chosen",
    "Place",
    "grid_blocks",
    "lane_blocks",
    "pattern_blocks",
    "row_blocks",
    "rows_per_block",
]

# Random integers of one stream. A device draws whole blocks, in few calls.
_INTEGERS = {"cpu": 2**18}
_INTEGERS_ON_DEVICE = 2**20

# The most passes in one block.
_LONGEST = 1024
# Units times passes of one row that a block of passes may hold, if it is longer than two strata.
_ROW_PATTERNS = 2**14
# The same for passes that are not stratified, which need 16 times as many bits.
_ROW_LANES = 2**12
_FEWEST_LANES, _MOST_LANES = 4, 64

Chosen = slice | npt.NDArray[np.intp]
"""Some rows, by their place."""


@dataclass(frozen=True)
class Place:
    """The rows of a mask, and how their units lie in it: as (outer, rows, inner).

    Attributes:
        rows: Absolute numbers of the rows; a single negative number is the mask of a whole batch.
        outer: Product of the dimensions before that of the rows.
        inner: Product of those after it.
    """

    rows: RowNumbers
    outer: int
    inner: int

    @classmethod
    def of(
        cls, shape: Sequence[int], row: RowDim | None, batch: int, rows: RowNumbers | None
    ) -> Place:
        """Find the place of every row.

        Args:
            shape: Shape of one pass's mask.
            row: The dimension that counts rows; None if the mask belongs to the batch as a whole.
            batch: Number of the batch.
            rows: Absolute numbers of its rows; None where they have none.
        """
        if row is None or rows is None:
            return cls((-1 - batch,), 1, math.prod(shape))
        before, after = math.prod(shape[: row.dim]), math.prod(shape[row.dim + 1 :])
        if row.rows_first:
            return cls(rows, before, row.per_row * after)
        return cls(rows, before * row.per_row, after)

    @property
    def units(self) -> int:
        """Units of one row."""
        return self.outer * self.inner

    @property
    def numel(self) -> int:
        """Units of all rows."""
        return self.units * len(self.rows)


def rows_per_block(integers: int, device: str) -> int:
    """Return the rows that one stream serves, a power of two.

    Args:
        integers: Random integers that a row takes of it.
        device: Type of the device that draws.
    """
    fitting = _INTEGERS.get(device, _INTEGERS_ON_DEVICE) // max(1, integers)
    return _power_of_two(max(1, fitting))


def row_blocks(rows: RowNumbers, size: int) -> Iterator[tuple[int, Chosen, Chosen]]:
    """Yield the blocks that hold some rows: number, places in the block, and in the batch.

    Args:
        rows: Absolute numbers of the rows.
        size: Rows per block.
    """
    if rows[0] < 0:
        yield rows[0], slice(0, 1), slice(0, 1)
        return
    if isinstance(rows, range) and rows.step == 1:
        first, end = rows.start, rows.stop
        for block in range(first // size, (end - 1) // size + 1):
            begin, stop = max(first, block * size), min(end, (block + 1) * size)
            within = slice(begin - block * size, stop - block * size)
            yield block, within, slice(begin - first, stop - first)
        return
    blocks, places = np.divmod(np.asarray(rows), size)
    for block in np.unique(blocks):
        (chosen,) = np.nonzero(blocks == block)
        yield int(block), places[chosen], chosen


def pattern_blocks(first: int, end: int, units: int) -> Iterator[range]:
    """Yield the blocks of stratified passes that hold some passes.

    They double in length, as in 16, 16, 32, 64 passes, between two lengths that depend on the
    units. Few passes then draw few bits that they do not need, and many passes start few streams.

    Args:
        first: Number of the first pass.
        end: Number after the last one.
        units: Units of one row.
    """
    fitting = _power_of_two(max(1, _ROW_PATTERNS // max(1, units)))
    longest = min(_LONGEST, max(2 * STRATUM, fitting))
    shortest = min(CYCLE, max(STRATUM, fitting // 4))
    begin = first
    while begin < end:
        length = min(longest, max(shortest, _power_of_two(max(1, begin))))
        start = begin - begin % length
        yield range(start, start + length)
        begin = start + length


def grid_blocks(first: int, end: int, units: int) -> Iterator[range]:
    """Yield the grids of 16 passes that hold some passes, whatever the units of one row."""
    for start in range(first - first % STRATUM, end, STRATUM):
        yield range(start, start + STRATUM)


def lane_blocks(first: int, end: int, units: int) -> Iterator[range]:
    """Yield the blocks of independent passes that hold some passes; see `pattern_blocks`."""
    fitting = _power_of_two(max(1, _ROW_LANES // max(1, units)))
    length = max(_FEWEST_LANES, min(_MOST_LANES, fitting))
    for start in range(first - first % length, end, length):
        yield range(start, start + length)


def _power_of_two(n: int) -> int:
    """Return the largest power of two up to n."""
    return int(2 ** (n.bit_length() - 1))
