"""Row dimensions: what one row needs, repeated for all, against a loop over entries."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mcdrop._masks.rows import RowDim, expand_rows, shared_shape


def by_loop(values: Tensor, shape: tuple[int, ...], rows: tuple[RowDim, ...]) -> Tensor:
    """Look up, for every entry of every row, the entry that all rows share."""
    out = torch.empty(len(values), *shape, dtype=values.dtype)
    for entry in itertools.product(*map(range, shape)):
        source = list(entry)
        for row in rows:
            n_rows = shape[row.dim] // row.per_row
            place = entry[row.dim]
            source[row.dim] = place % row.per_row if row.rows_first else place // n_rows
        source = [0 if values.shape[1 + d] == 1 else place for d, place in enumerate(source)]
        target: Any = (slice(None), *entry)
        shared: Any = (slice(None), *source)
        out[target] = values[shared]
    return out


CASES: dict[str, tuple[tuple[int, ...], tuple[RowDim, ...]]] = {
    "rows first": ((4, 3), (RowDim(0, 1),)),
    "rows second": ((5, 4, 3), (RowDim(1, 1),)),
    "rows of heads merged": ((8, 3), (RowDim(0, 2),)),
    "rows innermost": ((8, 3), (RowDim(0, 2, rows_first=False),)),
    "merged at the end": ((3, 12), (RowDim(1, 3),)),
    "two dimensions of rows": ((4, 8), (RowDim(0, 1), RowDim(1, 2, rows_first=False))),
    "no rows": ((2, 3), ()),
    "broadcast over rows": ((1, 3), (RowDim(0, 1),)),
    "broadcast over merged rows": ((1, 3), (RowDim(0, 2),)),
}


@pytest.mark.parametrize(("shape", "rows"), CASES.values(), ids=CASES.keys())
def test_expanding_is_a_lookup_for_every_row(
    shape: tuple[int, ...], rows: tuple[RowDim, ...]
) -> None:
    one_row = shared_shape(shape, rows)
    values = torch.arange(2 * torch.Size(one_row).numel()).view(2, *one_row)
    found = expand_rows(values, shape, rows)
    assert torch.equal(found.expand(2, *shape), by_loop(values, shape, rows))


def test_where_broadcasting_will_do_nothing_is_copied() -> None:
    values = torch.randn(2, 1, 3)
    assert expand_rows(values, (4, 3), (RowDim(0, 1),)) is values


def test_one_row_needs_the_entries_of_one_row() -> None:
    assert shared_shape((6, 10), (RowDim(0, 2),)) == (2, 10)
    assert shared_shape((6, 10), (RowDim(0, 1), RowDim(1, 5))) == (1, 5)
    # A mask of shape (N, C, 1, 1) broadcasts over what is 1, whatever the values are there.
    assert shared_shape((1, 10), (RowDim(0, 2),)) == (1, 10)
