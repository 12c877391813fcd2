"""Which dimensions of a mask count rows, so that rows can share a mask, or each has its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["RowDim", "RowLayout", "RowNumbers", "expand_rows", "shared_shape"]

RowNumbers = range | tuple[int, ...]
"""Numbers of rows among all inputs."""


@dataclass(frozen=True)
class RowDim:
    """A dimension of a tensor that grows with the number of rows.

    Attributes:
        dim: The dimension.
        per_row: Entries per row; more than 1 where rows were merged with something else.
        rows_first: Whether rows are the outer part of a merged dimension, so that the entries of
            one row lie next to each other.
    """

    dim: int
    per_row: int
    rows_first: bool = True


@dataclass(frozen=True)
class RowLayout:
    """The row dimensions of every dropout site and of every random tensor of a pass, in order.

    Attributes:
        sites: Those of every site.
        random_calls: Those of every random tensor.
        names: Names of the sites; empty where they are not known.
    """

    sites: tuple[tuple[RowDim, ...], ...]
    random_calls: tuple[tuple[RowDim, ...], ...]
    names: tuple[str, ...] = field(default=(), compare=False)

    def of_site(self, order: int, name: str) -> tuple[RowDim, ...] | None:
        """Return the row dimensions of a site; None if another one, or none, was seen there."""
        if order >= len(self.sites) or (self.names and self.names[order] != name):
            return None
        return self.sites[order]


def shared_shape(shape: Sequence[int], rows: Sequence[RowDim]) -> tuple[int, ...]:
    """Return the mask shape of a single row; dimensions that broadcast stay 1."""
    shrunk = list(shape)
    for row in rows:
        if shrunk[row.dim] != 1:
            shrunk[row.dim] = row.per_row
    return tuple(shrunk)


def expand_rows(values: Tensor, shape: Sequence[int], rows: Sequence[RowDim]) -> Tensor:
    """Repeat the mask of a single row for all rows, by broadcasting where possible.

    Args:
        values: Values of shape (passes, *shared_shape(shape, rows)).
        shape: Shape of one pass for all rows.
        rows: Its row dimensions.
    """
    for row in rows:
        size = shape[row.dim]
        if size == 1 or row.per_row == 1:
            continue
        n_rows = size // row.per_row
        if row.rows_first:
            repeats = [1] * values.ndim
            repeats[row.dim + 1] = n_rows
            values = values.repeat(repeats)
        else:
            values = values.repeat_interleave(n_rows, dim=row.dim + 1)
    return values
