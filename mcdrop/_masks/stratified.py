"""Stratified masks: in every 16 passes a unit is dropped as often as its rate says.

Passes that share the drops out evenly average to the predictive mean with a much smaller error
than independent ones (a Latin hypercube over passes; McKay, Beckman & Conover 1979), and need
fewer random bits: one draw picks which of 16 passes drop a unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop._masks.numba_kernels import compiled
from mcdrop._masks.numpy_kernels import tiles
from mcdrop._masks.streams import Key, Streams

Integers = npt.NDArray[np.signedinteger[Any]]

__all__ = ["STRATUM", "drop_patterns", "kept_passes", "passes_per_stream"]

STRATUM = 16
"""Passes that are balanced among each other."""

# Where 16 p is not whole, a unit is dropped once more in some strata than in others; which ones is
# spread evenly over this many passes, and afresh for the next.
_CYCLE = 64

_LONGEST = 1024
_ELEMENTS = 2**20
_TABLE = 2**16
# Passes of this many units are unpacked one by one, smaller ones together.
_LARGE_PASS = 2**13
# A pattern takes as long as so many multiplications.
_SLOW_STEPS = 4


def passes_per_stream(numel: int) -> int:
    """Return how many passes one stream of bits serves: a power of two, at least a stratum."""
    fitting = max(STRATUM, min(_LONGEST, _ELEMENTS // max(1, numel)))
    return int(2 ** (fitting.bit_length() - 1))


def drop_patterns(streams: Streams, rate: tuple[int, int], numel: int, key: Key) -> Tensor:
    """Draw in which passes of a stream each unit is dropped.

    Args:
        streams: Where bits come from.
        rate: The rate times 2^bits, in [1, 2^bits), and bits, 16 or 32.
        numel: Units in one pass.
        key: Batch, site and number of the stream.

    Returns:
        int16 tensor (passes / 16, numel); bit s of entry [b, i] is set where pass 16 b + s drops
        unit i.
    """
    numerator, bits = rate
    batch, site, number = key
    n_strata = passes_per_stream(numel) // STRATUM
    per_cycle = min(n_strata, _CYCLE // STRATUM)
    n_cycles = n_strata // per_cycle
    fewest, extra = divmod(STRATUM * numerator, 2**bits)
    shape = (n_cycles, per_cycle, numel)
    picks = streams.lanes(n_strata * numel, 16, key).view(shape)
    tables = _tables(fewest, streams.device)
    first = number * n_strata
    starts = picks[:, :1]
    steps = torch.zeros(n_strata, dtype=torch.int16)
    if extra:
        # The third entries of other keys count upwards from 0, so negatives are free.
        cycle = (batch, site, -1 - first // max(_CYCLE // STRATUM, n_strata))
        starts = streams.lanes(n_cycles * numel, bits, cycle).view(n_cycles, 1, numel)
        jumps = (first + 1 + np.arange(n_strata)) * extra
        # The integers of so many bits that are congruent to them.
        steps = torch.from_numpy(jumps.astype(f"int{bits}"))
    steps = steps.view(n_cycles, per_cycle, 1)
    # A point that jumps on by `extra` on a circle of 2^bits lands in a window of that length
    # exactly as often as the running total of drops passes a whole number. No place is below the
    # least of its integers, where a window of length 0 ends.
    window = extra - 2 ** (bits - 1)
    if not streams.on_cpu:
        index = picks.to(torch.int64) & (_TABLE - 1)
        index += _TABLE * (starts + steps.to(starts.device) < window)
        return tables[index].view(n_strata, numel)
    out = torch.empty(shape, dtype=torch.int16)
    kernels = compiled(n_strata * numel)
    look_up = _look_up if kernels is None else kernels.choose_patterns
    begun, jumped = starts.numpy(), steps.numpy()
    look_up(tables.numpy(), picks.numpy(), begun, jumped, window, out.numpy())
    return out.view(n_strata, numel)


def _look_up(
    table: Integers,
    picks: Integers,
    starts: Integers,
    steps: Integers,
    window: int,
    out: Integers,
) -> None:
    """Do what the compiled `choose_patterns` does, in tiles that fit the cache."""
    n_cycles, per_cycle, numel = out.shape
    lanes = picks.view(np.uint16)
    for cycles in tiles(n_cycles, _SLOW_STEPS * per_cycle * numel):
        for units in tiles(numel, _SLOW_STEPS * per_cycle * len(lanes[cycles])):
            once_more = starts[cycles, :, units] + steps[cycles] < window
            where = np.left_shift(once_more, 16, dtype=np.int32)
            where |= lanes[cycles, :, units]
            # Every index is valid; "wrap" spares NumPy a buffer.
            np.take(table, where, mode="wrap", out=out[cycles, :, units])


def kept_passes(patterns: Tensor, first: int, out: Tensor) -> None:
    """Unpack patterns to masks.

    Args:
        patterns: From `drop_patterns`.
        first: Number of the first pass within the stream.
        out: Boolean tensor (passes, numel), which becomes True where a unit is kept.
    """
    numbers = range(first, first + len(out))
    if out.device.type != "cpu":
        _unpack_on_device(patterns, numbers, out)
        return
    packed, kept = patterns.numpy(), out.numpy()
    kernels = compiled(out.numel())
    if kernels is not None:
        kernels.kept_by_pattern(packed, first, kept)
        return
    if out.shape[1] >= _LARGE_PASS:
        for units in tiles(out.shape[1], 1):
            bit = np.empty_like(packed[0, units])
            for row, number in enumerate(numbers):
                np.bitwise_and(packed[number // STRATUM, units], _BITS[number % STRATUM], out=bit)
                np.equal(bit, 0, out=kept[row, units])
        return
    if first % STRATUM or len(out) % STRATUM:
        bits_of = _BITS[[number % STRATUM for number in numbers], None]
        np.equal(packed[[number // STRATUM for number in numbers]] & bits_of, 0, out=kept)
        return
    whole = packed[first // STRATUM : (first + len(out)) // STRATUM, None]
    unpacked = kept.reshape(len(whole), STRATUM, -1)
    for some in tiles(len(whole), STRATUM * whole.shape[2]):
        np.equal(whole[some] & _BITS[:, None], 0, out=unpacked[some])


def _unpack_on_device(patterns: Tensor, numbers: Sequence[int], out: Tensor) -> None:
    """Do what `kept_passes` does with torch's operations alone."""
    bits = torch.tensor([number % STRATUM for number in numbers], device=out.device)
    strata = torch.tensor([number // STRATUM for number in numbers], device=out.device)
    chosen = patterns[strata].to(torch.int32) >> bits.unsqueeze(1)
    torch.eq(chosen & 1, 0, out=out)


_BITS: npt.NDArray[np.int16] = (1 << np.arange(STRATUM)).astype(np.int16)


@cache
def _tables(fewest: int, device: torch.device) -> Tensor:
    """Return what 16 bits pick: patterns of `fewest` drops, then patterns of one more."""
    both = (_table(count) for count in (fewest, fewest + 1))
    return torch.from_numpy(np.concatenate(list(both))).to(device)


@cache
def _table(count: int) -> npt.NDArray[np.int16]:
    """Return 2^16 patterns of `count` set bits, each pattern as often as any other, or once more.

    The patterns that appear once more form whole orbits under rotation, so that every bit is set
    exactly equally often.
    """
    patterns = [sum(1 << bit for bit in chosen) for chosen in combinations(range(STRATUM), count)]
    often, left = divmod(_TABLE, len(patterns))
    orbits = sorted({frozenset(_rotations(pattern)) for pattern in patterns}, key=min)
    # Full orbits first, in an order that scatters them; then the few short ones.
    order = np.random.default_rng(count).permutation(len(orbits))
    orbits = sorted((orbits[i] for i in order), key=len, reverse=True)
    more: list[int] = []
    for orbit in orbits:
        if len(more) + len(orbit) <= left:
            more += sorted(orbit)
    table = np.array(patterns * often + more, dtype=np.uint16)
    if len(table) != _TABLE:
        raise RuntimeError(f"patterns of {count} bits do not fill the table")
    return table.view(np.int16)


def _rotations(pattern: int) -> list[int]:
    """Return the pattern turned by 0 to 15 places."""
    doubled = pattern | pattern << STRATUM
    return [(doubled >> turn) % 2**STRATUM for turn in range(STRATUM)]
