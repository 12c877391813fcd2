"""Pieces of any size become blocks of the size that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcdrop._files.blocks import Block, RowReader


def block(first: int, n_rows: int) -> Block:
    numbers = np.arange(first, first + n_rows)
    return Block(first, numbers[:, None] * 0.5, pa.table({"id": numbers}))


class Source:
    """Rows in pieces of given sizes."""

    n_rows = None
    width = 1
    id_schema: Any = None

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes

    def pieces(self) -> Iterator[Block]:
        first = 0
        for size in self._sizes:
            yield block(first, size)
            first += size

    def place(self, row: int) -> str:
        return f"row {row}"

    def check(self, block: Block) -> None:
        """Accept everything."""


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 12))
def test_every_row_once_in_order(sizes: list[int], asked: int) -> None:
    reader, blocks = RowReader(Source(sizes)), []
    while (found := reader.take_block(asked)) is not None:
        blocks.append(found)
    numbers = [i for each in blocks for i in each.ids["id"].to_pylist()]
    assert numbers == list(range(sum(sizes)))
    for each in blocks:
        assert each.inputs[:, 0].tolist() == [i * 0.5 for i in range(each.first, each.end)]
    assert all(len(each) == asked for each in blocks[:-1])
    # One row more at the end rather than a block of a single row.
    assert all(len(each) <= asked + 1 for each in blocks[-1:])
    assert asked == 1 or sum(sizes) <= 1 or all(len(each) > 1 for each in blocks)


def test_exact_numbers_of_rows() -> None:
    reader = RowReader(Source([3, 4]))
    sizes = [len(found) for found in (reader.take(2), reader.take(4), reader.take(4)) if found]
    assert sizes == [2, 4, 1]
    assert reader.take(1) is None


def test_rows_are_known_again_by_their_numbers_and_ids() -> None:
    one = block(10, 6)
    assert one.digest() == block(10, 6).digest()
    # However they were cut from pieces.
    assert block(8, 10).rows(2, 8).digest() == one.digest()
    (joined,) = [RowReader(Source([10, 2, 4])).take(16)]
    assert joined is not None
    assert joined.rows(10, 16).digest() == one.digest()
    changed = one.inputs.copy()
    changed[3, 0] += 1e-12
    others = [
        Block(10, changed, one.ids),
        Block(10, one.inputs.astype(np.float32), one.ids),
        Block(10, one.inputs, one.ids.rename_columns(["key"])),
        Block(10, one.inputs, pa.table({"id": [str(i) for i in range(10, 16)]})),
        block(11, 6),
    ]
    assert len({one.digest(), *(each.digest() for each in others)}) == 6


@pytest.mark.parametrize("n_rows", [0, 3])
def test_length_counts_rows(n_rows: int) -> None:
    assert (len(block(5, n_rows)), block(5, n_rows).end) == (n_rows, 5 + n_rows)
