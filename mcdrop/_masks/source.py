"""The source of masks: which units a pass keeps, drawn from a key instead of a running state.

The mask of a row is a pure function of (seed, row, site, pass), where rows are numbered among all
inputs. So the numbers do not depend on how rows are split into batches, on how passes are grouped
into chunks, or on the strategy that runs them. Masks whose rows are not known, and those that rows
share, are functions of (seed, batch, site, pass). The bits of a block of rows and passes are drawn
together, because starting a stream costs as much as thousands of units.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from mcdrop._masks.blocks import (
    Chosen,
    Place,
    device_lane_blocks,
    device_pattern_blocks,
    grid_blocks,
    lane_blocks,
    pattern_blocks,
    row_blocks,
    rows_per_block,
)
from mcdrop._masks.drawn import Drawn, DropPatterns, Lanes, times
from mcdrop._masks.grid import grid_patterns, on_grid
from mcdrop._masks.numba_kernels import compiled
from mcdrop._masks.numpy_kernels import FLOATS, Workspace
from mcdrop._masks.rows import RowDim, RowNumbers
from mcdrop._masks.stratified import CYCLE, STRATUM, PatternPart, drop_patterns
from mcdrop._masks.streams import Streams
from mcdrop._masks.triton_kernels import FLOATS_THERE, ready

__all__ = ["MaskSource", "Span", "effective_rate"]

# Bytes of random bits that are kept from one chunk of passes to the next.
_KEPT_BITS = 64 * 2**20
# Bytes of patterns of one site up to which a call costs more than what it draws.
_SMALL_SITE = 2**15
# Bytes of patterns of one site beyond which a block of passes is kept in part.
_LARGE_SITE = 4 * 2**20
# The same on a device, where every part is drawn anew, in launches of its own.
_LARGE_DEVICE_SITE = 16 * 2**20


@lru_cache(maxsize=256)
def _fraction(p: float) -> tuple[int, int]:
    """Return the rate in units of 2^-bits, neither 0 nor 1, and bits, those of one unit's lane.

    16 bits resolve a rate to 2^-16; rates near 0 or 1 need 32.
    """
    bits = 16 if 2**-6 <= p <= 1 - 2**-6 else 32
    return min(max(round(p * 2**bits), 1), 2**bits - 1), bits


def effective_rate(p: float) -> float:
    """Return the rate that masks realize for a nominal `p` in (0, 1), within 2^-17 of it.

    The survivors are rescaled by this rate rather than the nominal one, so that the expectation
    of a dropped-out unit is exact.
    """
    numerator, bits = _fraction(p)
    return numerator / 2.0**bits


@dataclass(frozen=True)
class Span:
    """Some successive passes over one batch of rows.

    Attributes:
        batch: Number of the batch.
        first: Number of the first pass.
        count: Number of passes.
        rows: Numbers of its rows among all inputs; None if they are not known.
    """

    batch: int = 0
    first: int = 0
    count: int = 1
    rows: RowNumbers | None = None


class MaskSource:
    """Draws the masks of one prediction with generators of its own.

    The masks it returns are valid until it draws again; with gradients enabled, for good.

    Args:
        seed: Any integer; the same seed gives the same masks on the same kind of device.
        device: Where masks are drawn.
        stratified: Whether passes are a Latin hypercube: in every 16 of them a unit is dropped in a
            share p. Otherwise passes are independent of one another.
        n_samples: Passes of the whole run, if they are known in advance: fewer than 32 stratified
            ones lie on a grid, see `grid.py`.

    Attributes:
        stratified: As given.
        workspace: Buffers for masks and for products with them.
    """

    def __init__(
        self,
        seed: int,
        device: torch.device,
        *,
        stratified: bool = False,
        n_samples: int | None = None,
    ) -> None:
        self.stratified = stratified
        self._on_grid = on_grid(n_samples, stratified=stratified)
        self.workspace = Workspace()
        self._streams = Streams(seed, device)
        if self._streams.on_cpu:
            self._blocks = pattern_blocks if stratified else lane_blocks
        else:
            self._blocks = device_pattern_blocks if stratified else device_lane_blocks
        self._latest: dict[int, tuple[tuple[object, ...], Drawn]] = {}
        self._edges: dict[tuple[int, range], tuple[tuple[object, ...], Tensor]] = {}

    def keep(
        self,
        p: float,
        shape: tuple[int, ...],
        site: int,
        span: Span,
        row: RowDim | None = None,
    ) -> Tensor:
        """Draw which units survive in some passes.

        Args:
            p: Probability that a unit is dropped, in (0, 1).
            shape: Shape of one pass's mask.
            site: Number of the dropout call within a pass.
            span: The passes.
            row: The dimension that counts the rows of the span; None for one mask per batch.

        Returns:
            Boolean tensor, (span.count, *shape), True where a unit is kept.
        """
        place = Place.of(shape, row, span.batch, span.rows)
        if not self._streams.on_cpu:
            return self._kept_there(p, place, site, span).view(span.count, *shape)
        keep = self._empty((span.count, place.numel))
        flags = keep.numpy()
        for passes, first, drawn in self._drawn(p, place, site, span):
            drawn.keep(first, flags[passes])
        return keep.view(span.count, *shape)

    def times(
        self,
        x: Tensor,
        scale: float,
        p: float,
        where: tuple[tuple[int, ...], int, Span, RowDim | None],
        key: object,
    ) -> Tensor | None:
        """Drop units of `x` without masks in memory, where a kernel does that.

        Args:
            x: Values, (span.count, ...), or (1, ...) where they are the same for all passes.
            scale: What the survivors are multiplied by.
            p: Probability that a unit is dropped, in (0, 1).
            where: Shape of one pass's mask, number of the dropout call within a pass, the passes,
                and the dimension that counts rows, as in `keep`.
            key: Names the buffer of the result.

        Returns:
            ``x * keep * scale``, (span.count, ...), or None.
        """
        numel, (shape, site, span, row) = math.prod(x.shape[1:]), where
        place = Place.of(shape, row, span.batch, span.rows)
        if not self._streams.on_cpu:
            return self._times_there(x, scale, p, (place, site, span))
        if x.dtype not in FLOATS:
            return None
        kernels = compiled(span.count * numel)
        out = self.workspace.empty(key, (span.count, numel), x.dtype)
        product, values = out.numpy(), x.detach().numpy().reshape(x.shape[0], numel)
        # Compiled kernels take contiguous arrays, and a scalar of their type, alone.
        values, factor = np.ascontiguousarray(values), product.dtype.type(scale)
        for passes, first, drawn in self._drawn(p, place, site, span):
            some = values[passes] if len(values) > 1 else values
            times(drawn, first, some, factor, product[passes], kernels)
        return out.view(span.count, *x.shape[1:])

    def aside(self) -> MaskSource:
        """Return a source of stratified masks under the same seed, for passes of other numbers."""
        return MaskSource(self._streams.seed, self._streams.device, stratified=True)

    def release(self) -> None:
        """Free all buffers now, rather than at the next garbage collection."""
        self.workspace = Workspace()
        self._latest.clear()
        self._edges.clear()

    def generator(self, call: int, span: Span, device: torch.device) -> torch.Generator:
        """Return a generator for random numbers that the model draws itself.

        Args:
            call: Number of the drawing call within a pass.
            span: Its `first` is the number of the pass.
            device: Where the numbers are drawn.
        """
        # Sites count upwards from 0, so negative numbers are streams of another kind.
        return self._streams.generator((span.batch, -1 - call, span.first), device)

    def seed_of_pass(self, span: Span) -> int:
        """Return a seed for generators that cannot be entered at a key; 0 is the first call's."""
        return self._streams.integer((span.batch, -(2**62), span.first))

    def _drawn(
        self, p: float, place: Place, site: int, span: Span
    ) -> Iterator[tuple[slice, int, Drawn]]:
        """Yield the passes of a span: some of them, number of the first among the bits, bits."""
        last = span.first + span.count
        blocks = grid_blocks if self._on_grid else self._blocks
        for passes in self._parts(blocks(span.first, last, place.units), place.numel):
            begin, end = max(passes[1].start, span.first), min(passes[1].stop, last)
            if begin < end:
                drawn = self._bits(p, place, site, passes)
                yield slice(begin - span.first, end - span.first), begin - passes[1].start, drawn

    def _bits(self, p: float, place: Place, site: int, passes: tuple[range, range]) -> Drawn:
        """Return the bits of some passes; the latest of every site are kept for the next call.

        Args:
            p: Probability that a unit is dropped.
            place: The rows and their units.
            site: Number of the dropout call.
            passes: From `_parts`.
        """
        named = (p, place, passes)
        latest = self._latest.get(site)
        if latest is not None and latest[0] == named:
            return latest[1]
        bits = self._of_rows(p, place, site, passes)
        drawn = DropPatterns(bits) if self.stratified else Lanes.of(bits, *_fraction(p))
        held = sum(old.bits.nbytes for other, (_, old) in self._latest.items() if other != site)
        if held + drawn.bits.nbytes <= _KEPT_BITS:
            self._latest[site] = (named, drawn)
        return drawn

    def _of_rows(self, p: float, place: Place, site: int, passes: tuple[range, range]) -> Tensor:
        """Put the bits of all rows together, (strata or passes, units of all rows)."""
        per_unit = passes[0].step
        if self.stratified:
            # All blocks of passes of one cycle have the same blocks of rows, as they share starts.
            per_unit = max(per_unit, CYCLE) // STRATUM
        size = rows_per_block(per_unit * place.units, self._streams.device.type)
        whole: Tensor | None = None
        for number, within, rows in row_blocks(place.rows, size):
            bits = self._of_block(p, (size, place.units), (number, site), passes, within)
            if place.outer == 1 and bits.shape[1] == len(place.rows):
                # Compiled kernels take contiguous arrays alone.
                return bits.flatten(1).contiguous()
            if whole is None:
                shape = (len(bits), place.outer, len(place.rows), place.inner)
                whole = bits.new_empty(shape)
            whole[:, :, rows] = bits.unflatten(2, (place.outer, place.inner)).transpose(1, 2)
        if whole is None:
            raise RuntimeError("MaskSource: a mask without rows")
        return whole.view(len(whole), -1)

    def _of_block(
        self,
        p: float,
        size: tuple[int, int],
        key: tuple[int, int],
        passes: tuple[range, range],
        within: Chosen,
    ) -> Tensor:
        """Return the bits of some rows of one block, (strata or passes, rows, units).

        On the CPU, fewer rows of a block are a prefix of more. Rows that begin a block are drawn
        alone; of others, twice as many as are needed are drawn and kept, since the batches that
        follow are likely to need them. A device draws whole blocks.

        Args:
            p: Probability that a unit is dropped.
            size: Rows of the block, and units of one row.
            key: Number of the block of rows, and site.
            passes: As in `_bits`.
            within: Places of the rows in the block.
        """
        rows, units = size
        end = within.stop if isinstance(within, slice) else int(within.max()) + 1
        leads = isinstance(within, slice) and within.start == 0
        if leads and (self._streams.on_cpu or end == rows or key[0] < 0):
            return self._draw(p, (end, units), key, passes)
        if leads and self.stratified and not self._on_grid:
            return self._draw(p, (rows, units), key, passes, upto=end)
        named = (p, units, key)
        edge = (key[1], passes[1])
        kept = self._edges.get(edge)
        if kept is not None and kept[0] == named and kept[1].shape[1] >= end:
            return kept[1][:, within]
        rows = min(rows, 2 * end) if self._streams.on_cpu else rows
        bits = self._draw(p, (rows, units), key, passes)
        self._edges.pop(edge, None)
        if sum(x.nbytes for _, x in self._edges.values()) + bits.nbytes <= _KEPT_BITS:
            self._edges[edge] = (named, bits)
        return bits[:, within]

    def _draw(
        self,
        p: float,
        size: tuple[int, int],
        key: tuple[int, int],
        passes: tuple[range, range],
        upto: int | None = None,
    ) -> Tensor:
        """Draw the bits of the first rows of a block, (strata or passes, rows, units)."""
        (blocks, wanted), (rows, units) = passes, size
        if self._on_grid:
            return grid_patterns(self._streams, _fraction(p), size, (*key, blocks.start // STRATUM))
        if self.stratified:
            part = PatternPart(blocks, wanted, rows, units, upto)
            return drop_patterns(self._streams, _fraction(p), part, key)
        (_, bits), named = _fraction(p), (*key, blocks.start // blocks.step)
        lanes = self._streams.lanes(rows * blocks.step * units, bits, named)
        return lanes.view(rows, blocks.step, units).transpose(0, 1)

    def _parts(self, blocks: Iterable[range], numel: int) -> Iterator[tuple[range, range]]:
        """Yield blocks as a `PatternPart` names them, and the passes of theirs to draw at a time.

        Stratified passes are drawn cycle by cycle or stratum by stratum where they take much
        memory, and for all blocks of one length where that is little.
        """
        on_cpu = self._streams.on_cpu
        few = _SMALL_SITE if on_cpu and self.stratified and not self._on_grid else 0
        most = _LARGE_SITE if on_cpu else _LARGE_DEVICE_SITE
        for length, group in groupby(blocks, len):
            starts = [block.start for block in group]
            first, end = starts[0], starts[-1] + length
            n_bytes = 2 * numel * length // STRATUM
            if n_bytes * len(starts) <= few:
                yield range(first, end, length), range(first, end)
                continue
            step = length
            if self.stratified and n_bytes > most:
                step = CYCLE if length > CYCLE else STRATUM
            for start in starts:
                for begin in range(start, start + length, step):
                    yield range(start, start + length, length), range(begin, begin + step)

    def _kept_there(self, p: float, place: Place, site: int, span: Span) -> Tensor:
        """Return which units survive on a device, (span.count, units of all rows)."""
        parts = [
            drawn.kept(first, passes.stop - passes.start)
            for passes, first, drawn in self._drawn(p, place, site, span)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _times_there(
        self, x: Tensor, scale: float, p: float, where: tuple[Place, int, Span]
    ) -> Tensor | None:
        """Do what `times` does on a device, where kernels have been compiled for it."""
        kernels, (place, site, span) = ready(self._streams.device), where
        if kernels is None or x.dtype not in FLOATS_THERE or not self.stratified:
            return None
        values = x.detach().reshape(len(x), -1).contiguous()
        out = torch.empty((span.count, place.numel), dtype=x.dtype, device=x.device)
        for passes, first, drawn in self._drawn(p, place, site, span):
            some = values[passes] if len(values) > 1 else values
            kernels.drop_by_pattern(some, drawn.bits, first, scale, out[passes])
        return out.view(span.count, *x.shape[1:])

    def _empty(self, shape: tuple[int, int]) -> Tensor:
        """Return memory for masks, used again unless a backward pass will read it."""
        if torch.is_grad_enabled():
            return torch.empty(shape, dtype=torch.bool, device="cpu")
        return self.workspace.empty("keep", shape, torch.bool)
