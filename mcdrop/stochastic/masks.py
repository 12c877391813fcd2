"""Random masks: which units are kept, for any pass, from a key instead of a running state.

A mask is a pure function of (seed, batch, site, pass), so the numbers do not depend on how passes
are grouped into chunks or on the strategy that runs them. Passes are drawn in blocks because
starting a stream costs about as much as a few hundred elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.stochastic.kernels import Workspace, compare
from mcdrop.stochastic.stratified import drop_patterns, kept_passes, passes_per_stream
from mcdrop.stochastic.streams import Key, Streams

__all__ = ["MaskSource", "Span", "effective_rate"]

_BLOCK_PASSES = 64
_BLOCK_ELEMENTS = 2**18
# Patterns kept from one chunk of passes to the next, bytes in all.
_KEPT_PATTERNS = 64 * 2**20


def _lane_bits(p: float) -> int:
    """Bits per unit: 16 resolve a rate to 2^-16; rates near 0 or 1 need more to stay accurate."""
    return 16 if 2**-6 <= p <= 1 - 2**-6 else 32


def _numerator(p: float, bits: int) -> int:
    """Return the rate in units of 2^-bits, neither 0 nor 1."""
    return min(max(round(p * 2**bits), 1), 2**bits - 1)


def effective_rate(p: float) -> float:
    """Return the rate that masks realise for a nominal `p` in (0, 1), within 2^-17 of it.

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

    The masks it returns are valid until it draws again.

    Args:
        seed: Any integer; the same seed gives the same masks on the same kind of device.
        device: Where masks are drawn.
        stratified: Whether every 16 passes share the drops of a unit out evenly; otherwise passes
            are independent.

    Attributes:
        stratified: As given.
        workspace: Buffers for masks, and for what is done with them.
    """

    def __init__(self, seed: int, device: torch.device, *, stratified: bool = False) -> None:
        self.stratified = stratified
        self.workspace = Workspace()
        self._streams = Streams(seed, device)
        self._blocks: dict[int, tuple[tuple[object, ...], Tensor]] = {}
        self._patterns: dict[int, tuple[tuple[object, ...], Tensor]] = {}

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
        draw = self._stratified if self.stratified else self._independent
        return draw(p, numel, site, span).view(span.count, *shape)

    def release(self) -> None:
        """Free all buffers now, rather than when the garbage collector comes by."""
        self.workspace = Workspace()
        self._blocks.clear()
        self._patterns.clear()

    def generator(self, call: int, span: Span, device: torch.device) -> torch.Generator:
        """Return a generator for random numbers that the model draws itself.

        Args:
            call: Number of the drawing call within a pass.
            span: Its `first` is the number of the pass.
            device: Where the numbers are drawn.
        """
        # Sites count upwards from 0, so negative numbers are streams of another kind.
        return self._streams.generator((span.batch, -1 - call, span.first), device)

    def _stratified(self, p: float, numel: int, site: int, span: Span) -> Tensor:
        """Draw masks from patterns that each serve several passes."""
        keep = self._empty("keep", (span.count, numel))
        length = passes_per_stream(numel)
        for number, begin, end in _parts(span, length):
            patterns = self._pattern(p, numel, (span.batch, site, number))
            into = keep[begin - span.first : end - span.first]
            kept_passes(patterns, begin - number * length, into)
        return keep

    def _pattern(self, p: float, numel: int, key: Key) -> Tensor:
        """Return the patterns of one stream; the latest of every site is kept for the next call."""
        batch, site, number = key
        named = (p, numel, batch, number)
        cached = self._patterns.get(site)
        if cached is not None and cached[0] == named:
            return cached[1]
        bits = _lane_bits(p)
        rate = (_numerator(p, bits), bits)
        patterns = drop_patterns(self._streams, rate, numel, key)
        held = sum(old.nbytes for other, (_, old) in self._patterns.items() if other != site)
        if held + patterns.nbytes <= _KEPT_PATTERNS:
            self._patterns[site] = (named, patterns)
        return patterns

    def _independent(self, p: float, numel: int, site: int, span: Span) -> Tensor:
        """Draw masks whose passes know nothing of each other."""
        block = _block_size(numel)
        if span.count == 1 and block > 1:
            number = span.first // block
            named = (p, numel, span.batch, number)
            cached = self._blocks.get(site)
            if cached is None or cached[0] != named:
                passes = self._new((block, numel))
                self._block(p, (span.batch, site, number), passes)
                self._blocks[site] = cached = (named, passes)
            return cached[1][span.first % block]
        keep = self._empty("keep", (span.count, numel))
        for number, begin, end in _parts(span, block):
            # A device generator gives other numbers for a shorter draw; NumPy's gives a prefix.
            drawn = end - number * block if self._streams.on_cpu else block
            into = keep[begin - span.first : end - span.first]
            if drawn == end - begin:
                self._block(p, (span.batch, site, number), into)
                continue
            passes = self._new((drawn, numel))
            self._block(p, (span.batch, site, number), passes)
            into.copy_(passes[begin - number * block : end - number * block])
        return keep

    def _new(self, shape: tuple[int, int]) -> Tensor:
        """Return fresh memory for masks."""
        return torch.empty(shape, dtype=torch.bool, device=self._streams.device)

    def _empty(self, key: object, shape: tuple[int, int]) -> Tensor:
        """Return memory for masks, used again on the CPU."""
        if self._streams.on_cpu:
            return self.workspace.empty(key, shape, torch.bool)
        return self._new(shape)

    def _block(self, p: float, key: Key, out: Tensor) -> None:
        """Draw the first passes of one block into `out`, (passes, numel)."""
        bits = _lane_bits(p)
        # Lanes are signed, so the lowest of them start at -2^(bits - 1).
        threshold = _numerator(p, bits) - 2 ** (bits - 1)
        compare(self._streams.lanes(out.numel(), bits, key).view(out.shape), threshold, out)


def _parts(span: Span, length: int) -> list[tuple[int, int, int]]:
    """Cut a span where blocks of some length begin: (number of the block, first pass, end)."""
    last = span.first + span.count
    return [
        (number, max(number * length, span.first), min((number + 1) * length, last))
        for number in range(span.first // length, (last - 1) // length + 1)
    ]


def _block_size(numel: int) -> int:
    """Passes drawn together: a power of two, at most 64, at most 256 Ki elements."""
    fitting = max(1, _BLOCK_ELEMENTS // max(1, numel))
    return int(min(_BLOCK_PASSES, 2 ** (fitting.bit_length() - 1)))
