"""The mask of one dropout call, drawn when it is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from mcdrop._masks.numpy_kernels import scaled_product
from mcdrop._masks.rows import RowDim, expand_rows, shared_shape
from mcdrop._masks.source import MaskSource, Span

__all__ = ["DropoutMask"]


@dataclass(frozen=True)
class DropoutMask:
    """Which units one dropout call keeps in the passes of a chunk.

    Attributes:
        source: Draws it.
        p: Probability that a unit is dropped, in (0, 1).
        shape: Shape of one pass's mask.
        site: Number of the dropout call within a pass.
        span: The passes.
        stacked: Whether values have passes first; otherwise the span is one pass.
        rows: The row dimensions if all rows share one mask, else None.
        row: The dimension that counts rows, where each has a mask of its own that depends on its
            number alone; None where it depends on the batch.
        buffer: With the site, the key of the buffer for products.
    """

    source: MaskSource
    p: float
    shape: tuple[int, ...]
    site: int
    span: Span
    stacked: bool
    rows: tuple[RowDim, ...] | None
    row: RowDim | None = None
    buffer: str = "whole"

    def part(self, passes: slice) -> DropoutMask:
        """Return the mask of some of the passes; products of all such parts share a buffer.

        Args:
            passes: Start and stop, counted from the first pass of the span.
        """
        first, count = self.span.first + passes.start, passes.stop - passes.start
        if count == self.span.count:
            return self
        return replace(self, span=replace(self.span, first=first, count=count), buffer="part")

    @property
    def is_one_per_unit(self) -> bool:
        """Whether all rows share one flag per unit, with units along the last dimension."""
        if self.rows is None or len(self.shape) < 2:
            return False
        return math.prod(shared_shape(self.shape, self.rows)[:-1]) == 1

    def by_unit(self) -> Tensor:
        """Return the flags that all rows share, (passes, units)."""
        return self.source.keep(self.p, self.shape[-1:], self.site, self.span).clone()

    def keep(self) -> Tensor:
        """Return booleans that broadcast with the values, True where a value is kept."""
        if self.rows is None:
            keep = self.source.keep(self.p, self.shape, self.site, self.span, self.row)
        else:
            one_row = shared_shape(self.shape, self.rows)
            keep = self.source.keep(self.p, one_row, self.site, self.span)
            keep = expand_rows(keep, self.shape, self.rows)
        return keep if self.stacked else keep[0]

    def times(self, x: Tensor, scale: float) -> Tensor:
        """Return ``x * keep * scale`` without gradients; valid until the next product of this site.

        Args:
            x: Values; if stacked, passes first: all of them, or 1 if they are the same for all.
            scale: Factor of the kept units, 1 / (1 - rate).
        """
        values = x if self.stacked else x.unsqueeze(0)
        key = (self.buffer, self.site)
        if self.rows is None and math.prod(self.shape) == math.prod(values.shape[1:]):
            where = (self.shape, self.site, self.span, self.row)
            product = self.source.times(values, scale, self.p, where, key)
            if product is not None:
                return product if self.stacked else product[0]
        return scaled_product(x, self.keep(), scale, self.source.workspace, key)
