"""Stratified masks: a Latin hypercube over passes.

Of every 16 passes (a stratum), a unit is dropped in 16 p, rounded up or down at random so that the
rate of every pass stays p. The part of the output that is linear in the masks then cancels from
the error of the mean over passes (McKay, Beckman & Conover 1979). One random draw per unit serves
16 passes: it picks a 16-bit pattern with the right number of ones from a table.

For one unit, two passes of the same stratum have the correlation
rho = -1/15 + e (1 - e) / (240 p (1 - p)), where e is the fractional part of 16 p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop._masks.device_kernels import (
    extra_drops,
    looked_up,
    picks_and_starts,
    signed_table,
    steps,
)
from mcdrop._masks.numba_kernels import Booleans, Integers, PatternBits, compiled
from mcdrop._masks.numpy_kernels import tiles
from mcdrop._masks.streams import Key, Streams
from mcdrop._masks.triton_kernels import ready

__all__ = ["CYCLE", "STRATUM", "PatternPart", "drop_patterns", "kept_passes"]

STRATUM = 16
"""Passes in one stratum."""

# Where 16 p is not whole, some strata drop a unit floor(16 p) + 1 times, the others floor(16 p)
# times. The number of drops is also balanced over each cycle of so many passes; cycles are
# independent of one another.
CYCLE = 64
"""Passes over which the drops of a unit are balanced where 16 p is not whole."""

# Entries of a table of patterns: one for each value of a 16-bit draw.
_TABLE = 2**16
# From this many units on, masks are unpacked pass by pass, which then takes less memory traffic.
_LARGE_PASS = 2**13
# Cost of looking up one pattern, in multiplications; sets the size of the tiles.
_SLOW_STEPS = 4


@dataclass(frozen=True)
class PatternPart:
    """Which patterns of successive streams are wanted.

    Attributes:
        blocks: Number of the first pass of each stream; the step is how many passes it holds.
        wanted: Some of the passes: all, or whole cycles or one stratum of a single stream.
        rows: Rows, the first of the block.
        units: Units of one row.
        upto: On a device, how many of the rows are wanted; None for all.
    """

    blocks: range
    wanted: range
    rows: int
    units: int
    upto: int | None = None

    @property
    def strata(self) -> tuple[int, int]:
        """First and end of the strata that are wanted, counted from the first of all."""
        begin = (self.wanted.start - self.blocks.start) // STRATUM
        return begin, begin + len(self.wanted) // STRATUM


def drop_patterns(
    streams: Streams, rate: tuple[int, int], part: PatternPart, key: tuple[int, int]
) -> Tensor:
    """Draw the passes of successive streams in which each unit is dropped.

    With 16 p = fewest + extra / 2^bits and u uniform on the integers below 2^bits, drawn once per
    unit and cycle, stratum k drops the unit `fewest` times, and one extra time iff
    (u + k * extra) mod 2^bits < extra. This is systematic sampling: the extra drops have the
    probability extra / 2^bits in each stratum, and their total over successive strata is the
    expected number rounded up or down.

    Args:
        streams: Source of random bits.
        rate: The rate as a fraction of 2^bits, in [1, 2^bits), and bits, 16 or 32.
        part: What is to be drawn.
        key: Number of the block of rows, and site.

    Returns:
        int16 tensor (len(part.wanted) / 16, rows, units); bit s of entry [b, r, i] is set where
        pass 16 b + s of those wanted drops unit i of row r.
    """
    numerator, bits = rate
    fewest, extra = divmod(STRATUM * numerator, 2**bits)
    n_strata, first = part.blocks.step // STRATUM, part.blocks.start // STRATUM
    # Cycles, or the part of one that a block covers.
    per_cycle = min(n_strata, CYCLE // STRATUM)
    shapes = (part.rows, n_strata, part.units), (part.rows, n_strata // per_cycle, part.units)
    # Blocks of passes are numbered from 0, so negative numbers are free for the cycles.
    keys = [((*key, each // STRATUM), (*key, -1 - each // CYCLE)) for each in part.blocks]
    if not streams.on_cpu:
        return _on_device(streams, (fewest, extra, bits), part, (keys[0], (n_strata, per_cycle)))
    picks = _joined(streams, shapes[0], 16, [names[0] for names in keys])
    starts = _joined(streams, shapes[1], bits, [names[1] for names in keys]) if extra else picks
    begin, end = part.strata
    if end - begin < picks.shape[1]:
        cycles = slice(begin // per_cycle, -(-end // per_cycle))
        picks, starts = (np.ascontiguousarray(x) for x in (picks[:, begin:end], starts[:, cycles]))
    jumps = steps(first + begin, end - begin, extra, bits, streams.device).numpy()
    # Extra drop iff (u + k * extra) mod 2^b < extra. Integers are signed here, so the least is
    # -2^(bits - 1); for extra = 0 nothing lies below the limit.
    limit = extra - 2 ** (bits - 1)
    out = np.empty((end - begin, part.rows, part.units), dtype=np.int16)
    kernels = compiled(out.size)
    look_up = _look_up if kernels is None else kernels.choose_patterns
    table = _tables(fewest, streams.device).numpy()
    look_up(table, picks, starts, jumps, per_cycle, limit, out)
    return torch.from_numpy(out)


def _joined(
    streams: Streams, shape: tuple[int, int, int], bits: int, keys: Sequence[Key]
) -> Integers:
    """Draw the same shape from each stream; the second dimension goes on from one to the next."""
    drawn = [streams.array(prod(shape), bits, key).reshape(shape) for key in keys]
    return drawn[0] if len(drawn) == 1 else np.concatenate(drawn, axis=1)


def _on_device(
    streams: Streams,
    drops: tuple[int, int, int],
    part: PatternPart,
    names: tuple[tuple[Key, Key], tuple[int, int]],
) -> Tensor:
    """Draw what `drop_patterns` returns, in few operations of the device."""
    (fewest, extra, bits), (keys, (n_strata, per_cycle)) = drops, names
    first, (begin, end) = part.blocks.start // STRATUM, part.strata
    shapes = (n_strata, part.rows, part.units), (n_strata // per_cycle, part.rows, part.units)
    starts = None
    if extra:
        alone = part.blocks.step >= CYCLE
        picks, starts = picks_and_starts(streams, shapes, bits, keys, together=alone)
        starts = starts[:, : part.upto]
    else:
        picks = streams.lanes(prod(shapes[0]), 16, keys[0]).view(shapes[0])
    picks = picks[begin:end, : part.upto]
    kernels = ready(streams.device)
    if kernels is not None:
        numbers = first + begin, begin, per_cycle
        table = _tables(fewest, streams.device)
        return kernels.choose_patterns(table, picks, starts, numbers, (extra, bits))
    once_more = None
    if starts is not None:
        limit = extra - 2 ** (bits - 1)
        once_more = extra_drops(starts, n_strata, (first, per_cycle, extra), limit, bits)[begin:end]
    return looked_up(_signed(fewest, streams.device), picks, once_more)


@cache
def _signed(fewest: int, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return signed_table(_tables(fewest, device))


def _look_up(
    table: Integers,
    picks: Integers,
    starts: Integers,
    jumps: Integers,
    per_cycle: int,
    limit: int,
    out: Integers,
) -> None:
    """Look patterns up as the compiled `choose_patterns` does, in tiles that fit the cache."""
    lanes, cycles = picks.view(np.uint16).transpose(1, 0, 2), np.arange(len(out)) // per_cycle
    for some in tiles(len(out), _SLOW_STEPS * out[0].size):
        begun = starts.take(cycles[some], axis=1).transpose(1, 0, 2)
        once_more = begun + jumps[some, None, None] < limit
        where = np.left_shift(once_more, 16, dtype=np.int32)
        where |= lanes[some]
        # Every index is valid; with mode="wrap" NumPy writes to `out` without a buffer.
        np.take(table, where, mode="wrap", out=out[some])


def kept_passes(patterns: PatternBits, first: int, out: Booleans) -> None:
    """Unpack patterns to masks, on the CPU.

    Args:
        patterns: From `drop_patterns`, (strata, units).
        first: Number of the first pass within the patterns.
        out: Set to True where a unit is kept, (passes, units).
    """
    kernels = compiled(out.size)
    if kernels is not None:
        kernels.kept_by_pattern(patterns, first, out)
        return
    n_passes, n_units = out.shape
    if n_units >= _LARGE_PASS:
        for units in tiles(n_units, 1):
            bit = np.empty_like(patterns[0, units])
            for row, number in enumerate(range(first, first + n_passes)):
                np.bitwise_and(patterns[number // STRATUM, units], _BITS[number % STRATUM], out=bit)
                np.equal(bit, 0, out=out[row, units])
        return
    # Whole strata are unpacked, also where the passes begin or end within one.
    begin, before = divmod(first, STRATUM)
    strata = patterns[begin : -(-(first + n_passes) // STRATUM), None]
    for some in tiles(len(strata), STRATUM * n_units):
        unpacked = (strata[some] & _BITS).reshape(-1, n_units)
        start = STRATUM * some.start - before
        wanted, skipped = out[max(0, start) : start + len(unpacked)], max(0, -start)
        np.equal(unpacked[skipped : skipped + len(wanted)], 0, out=wanted)


_BITS: npt.NDArray[np.int16] = (1 << np.arange(STRATUM)).astype(np.int16)[:, None]


@cache
def _tables(fewest: int, device: torch.device) -> Tensor:
    """Return 2^16 patterns of `fewest` drops, then 2^16 of `fewest` + 1."""
    both = (_table(count) for count in (fewest, fewest + 1))
    with torch.inference_mode(mode=False):
        return torch.from_numpy(np.concatenate(list(both))).to(device)


@cache
def _table(count: int) -> npt.NDArray[np.int16]:
    """Return 2^16 patterns of `count` set bits, in which all patterns are equally frequent to 1.

    2^16 is no multiple of the number of patterns, so some appear one extra time. These form whole
    orbits under rotation of the bits, so that every bit is set exactly equally often.
    """
    patterns = _of_count(count)
    often, left = divmod(_TABLE, len(patterns))
    turns = np.arange(STRATUM)[:, None]
    rotated = (patterns << turns | patterns >> (STRATUM - turns)) & 0xFFFF
    # The least pattern of an orbit stands for it.
    of_least = rotated[:, rotated.min(axis=0) == patterns]
    orbits = [sorted(set(orbit)) for orbit in sorted(of_least.T.tolist())]
    # Orbits of 16 patterns first, in random order; the few shorter ones fill what remains.
    order = np.random.default_rng(count).permutation(len(orbits))
    more: list[int] = []
    for orbit in sorted((orbits[i] for i in order), key=len, reverse=True):
        if len(more) + len(orbit) <= left:
            more += orbit
    table = np.concatenate([np.tile(patterns, often), more]).astype(np.uint16)
    if len(table) != _TABLE:
        raise RuntimeError(f"patterns of {count} bits do not fill the table")
    return table.view(np.int16)


def _of_count(count: int) -> npt.NDArray[np.int64]:
    """Return the patterns of `count` set bits, those with low bits set first."""
    patterns = np.arange(_TABLE)
    bits = patterns[:, None] >> np.arange(STRATUM) & 1
    some = bits.sum(axis=1) == count
    return patterns[some][np.argsort(-(bits[some] @ (1 << np.arange(STRATUM)[::-1])))]
