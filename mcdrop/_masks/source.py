"""The source of masks: which units a pass keeps, drawn from a key instead of a running state.

The mask of a row is a pure function of (seed, row, site, pass), where rows are numbered among all
inputs. So the numbers do not depend on how rows are split into batches, on how passes are grouped
into chunks, or on the strategy that runs them. Masks whose rows are not known, and those that rows
share, are functions of (seed, batch, site, pass). The bits of a block of rows and passes are drawn
together, because starting a stream costs as much as thousands of units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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
from mcdrop._masks.drawn import Drawn, DropPatterns, Lanes
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
# Bytes of patterns of one site beyond which a block of passes is kept in part.
_LARGE_SITE = 4 * 2**20
# The same on a device, where every part is drawn anew, in launches of its own.
_LARGE_DEVICE_SITE = 16 * 2**20


def _lane_bits(p: float) -> int:
    """Return the bits per unit: 16 resolve a rate to 2^-16, rates near 0 or 1 need 32."""
    return 16 if 2**-6 <= p <= 1 - 2**-6 else 32


def _numerator(p: float, bits: int) -> int:
    """Return the rate in units of 2^-bits, neither 0 nor 1."""
    return min(max(round(p * 2**bits), 1), 2**bits - 1)


def effective_rate(p: float) -> float:
    """Return the rate that masks realize for a nominal `p` in (0, 1), within 2^-17 of it.

    The survivors are rescaled by this rate rather than the nominal one, so that the expectation
    of a dropped-out unit is exact.
    """
    bits = _lane_bits(p)
    return _numerator(p, bits) / 2.0**bits


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
        for passes, first, drawn in self._drawn(p, place, site, span):
            drawn.keep(first, keep[passes])
        return keep.view(span.count, *shape)

    def times(
        self,
        x: Tensor,
        scale: float,
        p: float,
        where: tuple[tuple[int, ...], int, Span, RowDim | None],
        key: object,
    ) -> Tensor | None:
        """Drop units of `x` without masks in memory, where a compiled kernel does that.

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
        if kernels is None:
            return None
        out = self.workspace.empty(key, (span.count, numel), x.dtype)
        values, product = x.detach().reshape(len(x), numel).contiguous().numpy(), out.numpy()
        factor = product.dtype.type(scale)
        for passes, first, drawn in self._drawn(p, place, site, span):
            some = values[passes] if len(values) > 1 else values
            drawn.times(first, some, factor, product[passes], kernels)
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
        """Yield the blocks of a span: passes, number of the first within its block, bits."""
        last = span.first + span.count
        blocks = grid_blocks if self._on_grid else self._blocks
        for block in blocks(span.first, last, place.units):
            for wanted in self._in_parts(block, place.numel):
                begin, end = max(wanted.start, span.first), min(wanted.stop, last)
                if begin < end:
                    drawn = self._bits(p, place, site, (block, wanted))
                    yield slice(begin - span.first, end - span.first), begin - wanted.start, drawn

    def _bits(self, p: float, place: Place, site: int, passes: tuple[range, range]) -> Drawn:
        """Return the bits of some passes; the latest of every site are kept for the next call.

        Args:
            p: Probability that a unit is dropped.
            place: The rows and their units.
            site: Number of the dropout call.
            passes: A block of passes, and those of it that are wanted.
        """
        named = (p, place, passes)
        latest = self._latest.get(site)
        if latest is not None and latest[0] == named:
            return latest[1]
        bits = self._of_rows(p, place, site, passes)
        # Lanes are signed, so the lowest of them start at -2^(bits - 1).
        lane = _lane_bits(p)
        threshold = _numerator(p, lane) - 2 ** (lane - 1)
        drawn = DropPatterns(bits) if self.stratified else Lanes(bits, threshold)
        held = sum(old.bits.nbytes for other, (_, old) in self._latest.items() if other != site)
        if held + drawn.bits.nbytes <= _KEPT_BITS:
            self._latest[site] = (named, drawn)
        return drawn

    def _of_rows(self, p: float, place: Place, site: int, passes: tuple[range, range]) -> Tensor:
        """Put the bits of all rows together, (strata or passes, units of all rows)."""
        per_unit = len(passes[0])
        if self.stratified:
            # All blocks of passes of one cycle have the same blocks of rows, as they share starts.
            per_unit = max(per_unit, CYCLE) // STRATUM
        size = rows_per_block(per_unit * place.units, self._streams.device.type)
        whole: Tensor | None = None
        for number, within, rows in row_blocks(place.rows, size):
            bits = self._of_block(p, (size, place.units), (number, site), passes, within)
            if place.outer == 1 and bits.shape[1] == len(place.rows):
                # Compiled kernels take contiguous arrays alone.
                return bits.reshape(len(bits), -1).contiguous()
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
        (block, wanted), (rows, units), bits = passes, size, _lane_bits(p)
        rate = _numerator(p, bits), bits
        if self._on_grid:
            return grid_patterns(self._streams, rate, size, (*key, block.start // STRATUM))
        if self.stratified:
            part = PatternPart(block, wanted, rows, units, upto)
            return drop_patterns(self._streams, rate, part, key)
        named = (*key, block.start // len(block))
        lanes = self._streams.lanes(rows * len(block) * units, bits, named)
        return lanes.view(rows, len(block), units).transpose(0, 1)

    def _in_parts(self, block: range, numel: int) -> Iterator[range]:
        """Yield a block of stratified passes, in cycles or strata where it takes much memory."""
        step, most = len(block), _LARGE_SITE if self._streams.on_cpu else _LARGE_DEVICE_SITE
        if self.stratified and len(block) // STRATUM * numel * 2 > most:
            step = CYCLE if len(block) > CYCLE else STRATUM
        return (range(start, start + step) for start in range(block.start, block.stop, step))

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
