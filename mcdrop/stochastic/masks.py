"""Random masks: which units are kept, for any pass, from a key instead of a running state.

A mask is a pure function of (seed, batch, site, pass), so the numbers do not depend on how passes
are grouped into chunks or on the strategy that runs them. Passes are drawn in blocks because
starting a stream costs about as much as a few hundred elements.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mcdrop.stochastic.kernels import Workspace, compare

__all__ = ["MaskSource", "Span", "effective_rate"]

_BLOCK_PASSES = 64
_BLOCK_ELEMENTS = 2**18


def _lane_bits(p: float) -> int:
    """Bits per unit: 16 resolve a rate to 2^-16; rates near 0 or 1 need more to stay accurate."""
    return 16 if 2**-6 <= p <= 1 - 2**-6 else 32


def effective_rate(p: float) -> float:
    """Return the rate that masks realise for a nominal `p` in (0, 1), within 2^-17 of it.

    The survivors are rescaled by this rate rather than the nominal one, so that the expectation
    of a dropped-out unit is exact.
    """
    levels = 2 ** _lane_bits(p)
    return float(min(max(round(p * levels), 1), levels - 1) / levels)


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

    The masks it returns are valid until it draws again for the same site.

    Args:
        seed: Any integer; the same seed gives the same masks on the same kind of device.
        device: Where masks are drawn; bits come from NumPy's SFC64 on the CPU and from the
            device's own generator elsewhere.

    Attributes:
        workspace: Buffers for masks, and for what is done with them.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self.device = device
        self._generator = np.random.SFC64(0) if device.type == "cpu" else torch.Generator(device)
        self.workspace = Workspace()
        self._last: dict[int, tuple[tuple[object, ...], Tensor]] = {}

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
        batch, first, count = span.batch, span.first, span.count
        numel = int(np.prod(shape, dtype=np.int64))
        block = _block_size(numel)
        if count == 1 and block > 1:
            number = first // block
            key = (p, shape, batch, site, number)
            cached = self._last.get(site)
            if cached is None or cached[0] != key:
                passes = torch.empty((block, numel), dtype=torch.bool, device=self.device)
                self._block(p, (batch, site, number), passes)
                self._last[site] = cached = (key, passes)
            return cached[1][first % block].view(1, *shape)
        keep = self._empty(("keep", site), (count, numel))
        for number in range(first // block, (first + count - 1) // block + 1):
            begin, end = max(number * block, first), min((number + 1) * block, first + count)
            # A device generator gives other numbers for a shorter draw; NumPy's gives a prefix.
            drawn = end - number * block if self.device.type == "cpu" else block
            into = keep[begin - first : end - first]
            if drawn == end - begin:
                self._block(p, (batch, site, number), into)
                continue
            passes = torch.empty((drawn, numel), dtype=torch.bool, device=self.device)
            self._block(p, (batch, site, number), passes)
            into.copy_(passes[begin - number * block : end - number * block])
        return keep.view(count, *shape)

    def generator(self, call: int, span: Span, device: torch.device) -> torch.Generator:
        """Return a generator for random numbers that the model draws itself.

        Args:
            call: Number of the drawing call within a pass.
            span: Its `first` is the number of the pass.
            device: Where the numbers are drawn.
        """
        # Sites count upwards from 0, so negative numbers are streams of another kind.
        digest = self._digest((span.batch, -1 - call, span.first))
        return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    def _empty(self, key: object, shape: tuple[int, int]) -> Tensor:
        """Return memory for a mask, used again on the CPU."""
        if self.device.type == "cpu":
            return self.workspace.empty(key, shape, torch.bool)
        return torch.empty(shape, dtype=torch.bool, device=self.device)

    def _block(self, p: float, key: tuple[int, int, int], out: Tensor) -> None:
        """Draw the first passes of one block into `out`, (passes, numel)."""
        bits = _lane_bits(p)
        levels = 2**bits
        # Lanes are signed, so the lowest `dropped` of them start at -levels / 2.
        threshold = round(effective_rate(p) * levels) - levels // 2
        compare(self._lanes(out.numel(), bits, key).view(out.shape), threshold, out)

    def _digest(self, key: tuple[int, int, int]) -> bytes:
        """Hash seed and key to the 24 bytes that start a stream."""
        return hashlib.blake2b(struct.pack("<4q", self.seed, *key), digest_size=24).digest()

    def _lanes(self, n: int, bits: int, key: tuple[int, int, int]) -> Tensor:
        """Draw `n` uniform signed integers of `bits` bits from the stream of `key`."""
        digest = self._digest(key)
        n_words = -(-n * bits // 64)
        if isinstance(self._generator, torch.Generator):
            self._generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            words = torch.empty(n_words, dtype=torch.int64, device=self.device)
            # Without bounds, the sign bit would stay 0 and bias the top lane.
            words.random_(-(2**63), None, generator=self._generator)
            return words.view(torch.int16 if bits == 16 else torch.int32)[:n]
        self._generator.state = {
            "bit_generator": "SFC64",
            "state": {"state": np.frombuffer(digest + struct.pack("<q", 1), dtype=np.uint64)},
            "has_uint32": 0,
            "uinteger": 0,
        }
        # The generator's author discards 12 rounds after seeding.
        self._generator.random_raw(12, output=False)
        raw = np.asarray(self._generator.random_raw(n_words))
        return torch.from_numpy(raw.view(np.int16 if bits == 16 else np.int32))[:n]


def _block_size(numel: int) -> int:
    """Passes drawn together: a power of two, at most 64, at most 256 Ki elements."""
    fitting = max(1, _BLOCK_ELEMENTS // max(1, numel))
    return int(min(_BLOCK_PASSES, 2 ** (fitting.bit_length() - 1)))
