"""Random bits from a key instead of a running state: any pass can be drawn without the others."""

from __future__ import annotations

import hashlib
import struct
import threading

import numpy as np
import torch
from torch import Tensor

from mcdrop._masks.numba_kernels import Integers

__all__ = ["Key", "Streams"]

Key = tuple[int, int, int]
"""Block of rows, site and block of passes; negative entries name streams of other kinds."""

# The fourth word of a state of SFC64 is a counter.
_COUNTER = struct.pack("<q", 1)
# The generator's author discards so many rounds after seeding.
_DISCARDED = 12


class _Generators(threading.local):
    """A generator for each thread: every stream sets its state, so that one serves all."""

    def __init__(self) -> None:
        self.sfc64 = np.random.SFC64(0)


_GENERATORS = _Generators()


class Streams:
    """Independent streams of random bits, one for each (seed, key).

    Args:
        seed: Any integer; the same seed gives the same bits on the same kind of device.
        device: Where bits are drawn: with NumPy's SFC64 on the CPU, which is the fastest there,
            and with the device's own generator elsewhere.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        # Eight bytes, or as many as a larger integer needs.
        n_bytes = max(8, seed.bit_length() // 8 + 1)
        self._seed_bytes = seed.to_bytes(n_bytes, "little", signed=True)
        self.device = device
        self._on_cpu = device.type == "cpu"
        self._generator = None if self._on_cpu else torch.Generator(device)

    @property
    def on_cpu(self) -> bool:
        """Whether bits are drawn on the CPU."""
        return self._on_cpu

    def lanes(self, n: int, bits: int, key: Key) -> Tensor:
        """Draw uniform signed integers.

        On the CPU fewer integers are a prefix of more; a device's generator promises no such thing.

        Args:
            n: How many.
            bits: 16 or 32.
            key: Names the stream.
        """
        if self._generator is None:
            return torch.from_numpy(self.array(n, bits, key))
        digest = self._digest(key)
        self._generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        words = torch.empty(-(-n * bits // 64), dtype=torch.int64, device=self.device)
        # Without bounds, the sign bit would stay 0 and bias the top lane.
        words.random_(-(2**63), None, generator=self._generator)
        return words.view(torch.int16 if bits == 16 else torch.int32)[:n]

    def array(self, n: int, bits: int, key: Key) -> Integers:
        """Draw as `lanes` does, to an array; on the CPU alone."""
        if self._generator is not None:
            raise RuntimeError("Streams.array: bits are drawn on a device")
        generator = _GENERATORS.sfc64
        words = np.frombuffer(self._digest(key) + _COUNTER, dtype=np.uint64)
        generator.state = {
            "bit_generator": "SFC64",
            "state": {"state": words},
            "has_uint32": 0,
            "uinteger": 0,
        }
        raw = np.asarray(generator.random_raw(_DISCARDED - (-n * bits // 64)))[_DISCARDED:]
        drawn: Integers = raw.view(np.int16 if bits == 16 else np.int32)
        return drawn[:n]

    def generator(self, key: Key, device: torch.device) -> torch.Generator:
        """Return a generator that has just been started for a key.

        Args:
            key: Names the stream.
            device: Where its numbers are drawn.
        """
        seed = int.from_bytes(self._digest(key)[:8], "little") >> 1
        return torch.Generator(device).manual_seed(seed)

    def integer(self, key: Key) -> int:
        """Return a uniform integer below 2^62 for a key."""
        return int.from_bytes(self._digest(key)[:8], "little") >> 2

    def _digest(self, key: Key) -> bytes:
        """Hash seed and key to the 24 bytes that start a stream."""
        return hashlib.blake2b(self._seed_bytes + struct.pack("<3q", *key), digest_size=24).digest()
