"""The slopes of the outputs at one dropout call, and what they make of its masks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.rows import RowDim
from mcdrop._masks.source import MaskSource, Span

__all__ = ["NO_PASS", "SiteSlopes", "by_row"]

NO_PASS = 2**40
"""Masks of no pass are those of passes that are never run, numbered from here on."""

# Elements of the masks that are read at a time: they stay in the cache.
_TILE = 2**18


@dataclass(frozen=True)
class SiteSlopes:
    """The slopes at one dropout call.

    Attributes:
        mask: The mask of a pass.
        rate: Rate that masks realize.
        rows: The dimension of the mask that counts rows.
        values: (n, units, outputs).
        per_pass: Masks of it that every pass is given.
    """

    mask: DropoutMask
    rate: float
    rows: RowDim
    values: Tensor
    per_pass: int = 1

    def variance(self) -> Tensor:
        """Return the variance of the linear part, (n, outputs)."""
        return self.values.square().sum(dim=1) * (self.rate / (1 - self.rate))

    def part(self, first: int, count: int) -> Tensor:
        """Return the linear part of `count` passes from number `first` on.

        Shape (count, per_pass, n, outputs).
        """
        first, count = first * self.per_pass, count * self.per_pass
        span = replace(self.mask.span, first=first, count=count)
        # A mask is a pure function of its key: these are the bits that the passes were given.
        keep = by_row(replace(self.mask, span=span, stacked=True).keep(), self.rows)
        return self._centered(self._kept(keep)).unflatten(0, (-1, self.per_pass))

    def multipliers(self, source: MaskSource, first: int, count: int) -> Tensor:
        """Return what masks that belong to no pass multiply by, less 1, (count, units).

        Args:
            source: Draws them.
            first: Number of the first.
            count: How many.
        """
        units = (self.values.shape[1],)
        keep = source.keep(self.mask.p, units, self.mask.site, Span(0, NO_PASS + first, count))
        return keep.to(self.values.dtype).div_(1 - self.rate).sub_(1)

    def _centered(self, kept: Tensor) -> Tensor:
        return kept / (1 - self.rate) - self.values.sum(dim=1)

    def _kept(self, keep: Tensor) -> Tensor:
        """Sum the slopes of the units that are kept; `keep` is (passes, n or 1, units)."""
        slopes, dtype = self.values, self.values.dtype
        n_passes, n_rows, units = keep.shape
        n_outputs = slopes.shape[2]
        if n_rows == 1:
            products = keep[:, 0].to(dtype) @ slopes.transpose(0, 1).flatten(1)
            return products.view(n_passes, len(slopes), n_outputs)
        step = max(1, _TILE // max(1, n_rows * units))
        tiles = [keep[first : first + step] for first in range(0, n_passes, step)]
        if n_outputs == 1:
            # A product of a vector by every row is slower than to multiply and add.
            single = slopes.squeeze(2)
            sums = [tile.to(dtype).mul_(single).sum(dim=2).unsqueeze(2) for tile in tiles]
        else:
            # (n, s, units) @ (n, units, outputs)
            sums = [
                torch.bmm(tile.to(dtype).transpose(0, 1), slopes).transpose(0, 1) for tile in tiles
            ]
        return torch.cat(sums)


def by_row(values: Tensor, rows: RowDim) -> Tensor:
    """Sort units by row.

    Args:
        values: (k, *shape of a mask), in which the dimension of rows may have the size of one row.
        rows: The dimension of rows.

    Returns:
        (k, n, units); n is 1 where all rows share the values.
    """
    dim = rows.dim + 1
    n_rows = max(1, values.shape[dim] // rows.per_row)
    sizes = (n_rows, rows.per_row) if rows.rows_first else (rows.per_row, n_rows)
    apart = values.unflatten(dim, sizes).movedim(dim if rows.rows_first else dim + 1, 1)
    return apart.flatten(2) if apart.ndim > 2 else apart.unsqueeze(2)
