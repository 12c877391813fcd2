"""The source of masks: which units a pass keeps, drawn from a key instead of a running state.

A mask is a pure function of (seed, batch, site, pass), so the numbers do not depend on how passes
are grouped into chunks or on the strategy that runs them. The bits of several passes are drawn
together, as a block, because starting a stream costs about as much as a few hundred elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop._masks.drawn import Drawn, DropPatterns, Lanes
from mcdrop._masks.numba_kernels import compiled
from mcdrop._masks.numpy_kernels import FLOATS, Workspace
from mcdrop._masks.stratified import drop_patterns, passes_per_stream
from mcdrop._masks.streams import Key, Streams

__all__ = ["MaskSource", "Span", "effective_rate"]

_BLOCK_PASSES = 64
_BLOCK_ELEMENTS = 2**18
# Bytes of random bits that are kept from one chunk of passes to the next.
_KEPT_BITS = 64 * 2**20


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
    """

    batch: int = 0
    first: int = 0
    count: int = 1


class MaskSource:
    """Draws the masks of one prediction with generators of its own.

    The masks it returns are valid until it draws again; with gradients enabled, for good.

    Args:
        seed: Any integer; the same seed gives the same masks on the same kind of device.
        device: Where masks are drawn.
        stratified: Whether passes are a Latin hypercube: in every 16 of them a unit is dropped in a
            share p. Otherwise passes are independent of one another.

    Attributes:
        stratified: As given.
        workspace: Buffers for masks and for products with them.
    """

    def __init__(self, seed: int, device: torch.device, *, stratified: bool = False) -> None:
        self.stratified = stratified
        self.workspace = Workspace()
        self._streams = Streams(seed, device)
        self._latest: dict[int, tuple[tuple[object, ...], Drawn]] = {}

    def keep(self, p: float, shape: tuple[int, ...], site: int, span: Span) -> Tensor:
        """Draw which units survive in some passes.

        Args:
            p: Probability that a unit is dropped, in (0, 1).
            shape: Shape of one pass's mask.
            site: Number of the dropout call within a pass.
            span: The passes.

        Returns:
            Boolean tensor, (span.count, *shape), True where a unit is kept.
        """
        numel = math.prod(shape)
        keep = self._empty("keep", (span.count, numel))
        for passes, first, drawn in self._drawn(p, numel, site, span):
            drawn.keep(first, keep[passes])
        return keep.view(span.count, *shape)

    def times(
        self, x: Tensor, scale: float, p: float, where: tuple[int, Span], key: object
    ) -> Tensor | None:
        """Drop units of `x` without masks in memory, where a compiled kernel does that.

        Args:
            x: Values, (span.count, ...), or (1, ...) where they are the same for all passes.
            scale: What the survivors are multiplied by.
            p: Probability that a unit is dropped, in (0, 1).
            where: Number of the dropout call within a pass, and the passes.
            key: Names the buffer of the result.

        Returns:
            ``x * keep * scale``, (span.count, ...), or None.
        """
        numel, (site, span) = math.prod(x.shape[1:]), where
        if not self._streams.on_cpu or x.dtype not in FLOATS:
            return None
        kernels = compiled(span.count * numel)
        if kernels is None:
            return None
        out = self.workspace.empty(key, (span.count, numel), x.dtype)
        values, product = x.detach().reshape(len(x), numel).contiguous().numpy(), out.numpy()
        factor = product.dtype.type(scale)
        for passes, first, drawn in self._drawn(p, numel, site, span):
            some = values[passes] if len(values) > 1 else values
            drawn.times(first, some, factor, product[passes], kernels)
        return out.view(span.count, *x.shape[1:])

    def release(self) -> None:
        """Free all buffers now, rather than at the next garbage collection."""
        self.workspace = Workspace()
        self._latest.clear()

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
        self, p: float, numel: int, site: int, span: Span
    ) -> Iterator[tuple[slice, int, Drawn]]:
        """Yield the blocks of a span: passes, number of the first within its block, bits."""
        length = passes_per_stream(numel) if self.stratified else _block_size(numel)
        last = span.first + span.count
        for number in range(span.first // length, (last - 1) // length + 1):
            block = number * length
            begin, end = max(block, span.first), min(block + length, last)
            # A device generator gives other numbers for a shorter draw; NumPy's gives a prefix.
            fewer = self._streams.on_cpu and span.count >= length
            drawn = self._bits(
                p, numel, (span.batch, site, number), end - block if fewer else length
            )
            yield slice(begin - span.first, end - span.first), begin - block, drawn

    def _bits(self, p: float, numel: int, key: Key, n_passes: int) -> Drawn:
        """Return the bits of one block; the latest of every site are kept for the next call.

        Args:
            p: Probability that a unit is dropped.
            numel: Units in one pass.
            key: Batch, site and number of the block.
            n_passes: Passes of the block that are needed; patterns cover the whole block anyway.
        """
        batch, site, number = key
        named = (p, numel, batch, number, None if self.stratified else n_passes)
        latest = self._latest.get(site)
        if latest is not None and latest[0] == named:
            return latest[1]
        bits = _lane_bits(p)
        rate = _numerator(p, bits)
        drawn: Drawn
        if self.stratified:
            drawn = DropPatterns(drop_patterns(self._streams, (rate, bits), numel, key))
        else:
            lanes = self._streams.lanes(n_passes * numel, bits, key).view(n_passes, numel)
            # Lanes are signed, so the lowest of them start at -2^(bits - 1).
            drawn = Lanes(lanes, rate - 2 ** (bits - 1))
        held = sum(old.bits.nbytes for other, (_, old) in self._latest.items() if other != site)
        if held + drawn.bits.nbytes <= _KEPT_BITS:
            self._latest[site] = (named, drawn)
        return drawn

    def _empty(self, key: object, shape: tuple[int, int]) -> Tensor:
        """Return memory for masks, used again on the CPU unless a backward pass will read it."""
        if self._streams.on_cpu and not torch.is_grad_enabled():
            return self.workspace.empty(key, shape, torch.bool)
        return torch.empty(shape, dtype=torch.bool, device=self._streams.device)


def _block_size(numel: int) -> int:
    """Passes drawn together: a power of two, at most 64, at most 256 Ki elements."""
    fitting = max(1, _BLOCK_ELEMENTS // max(1, numel))
    return int(min(_BLOCK_PASSES, 2 ** (fitting.bit_length() - 1)))
