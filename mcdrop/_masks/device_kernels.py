"""Stratified patterns on a device other than the CPU: few launches, and constants made once.

A launch costs some microseconds whatever it computes, so small networks spend their time on the
number of launches.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import Tensor

from mcdrop._masks.streams import Streams

__all__ = [
    "extra_drops",
    "kept",
    "looked_up",
    "picks_and_starts",
    "scaled",
    "signed_table",
    "steps",
]

_STRATUM = 16
_ENTRIES = 2**16


def picks_and_starts(
    streams: Streams,
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]],
    bits: int,
    keys: tuple[tuple[int, int, int], tuple[int, int, int]],
    *,
    together: bool,
) -> tuple[Tensor, Tensor]:
    """Draw the two random integers that patterns need.

    Args:
        streams: Source of random bits.
        shapes: (strata, rows, units) of the picks, and (cycles, rows, units) of the starts.
        bits: Of a start, 16 or 32; a pick has 16.
        keys: Names of their streams.
        together: Whether the starts belong to these picks alone, so that one stream may hold both.
    """
    n_picks, n_starts = (prod(shape) for shape in shapes)
    if together and bits == _STRATUM:
        both = streams.lanes(n_picks + n_starts, bits, keys[0])
        return both[:n_picks].view(shapes[0]), both[n_picks:].view(shapes[1])
    picks = streams.lanes(n_picks, _STRATUM, keys[0]).view(shapes[0])
    return picks, streams.lanes(n_starts, bits, keys[1]).view(shapes[1])


def extra_drops(
    starts: Tensor, n_strata: int, jumps: tuple[int, int, int], limit: int, bits: int
) -> Tensor:
    """Return 1 where a stratum drops a unit once more, else 0; see `drop_patterns`.

    Args:
        starts: One per cycle, (cycles, rows, units).
        n_strata: Strata in all.
        jumps: Number of the first stratum, of strata per cycle, and the extra drops.
        limit: What start plus jump stays below.
        bits: Of a start.

    Returns:
        int64, (strata, rows, units).
    """
    first, per_cycle, extra = jumps
    each = steps(first, n_strata, extra, bits, starts.device).view(-1, per_cycle, 1, 1)
    moved = starts.unsqueeze(1) + each
    # Of the type of an index, so that the next operation need not convert it.
    once_more = torch.empty_like(moved, dtype=torch.int64)
    torch.lt(moved, limit, out=once_more)
    return once_more.view(n_strata, *starts.shape[1:])


def looked_up(table: Tensor, picks: Tensor, once_more: Tensor | None) -> Tensor:
    """Return the patterns for picks, (strata, rows, units).

    Args:
        table: From `signed_table`.
        picks: Signed 16-bit integers.
        once_more: int64, 1 where the second half of the table is meant, else 0; None for nowhere.
    """
    if once_more is None:
        return table[picks.to(torch.int64)]
    return table[torch.add(picks, once_more, alpha=_ENTRIES)]


def signed_table(table: Tensor) -> Tensor:
    """Order 2 x 2^16 patterns so that a signed pick p, plus 2^16 for the second half, is an index.

    Negative indices count from the end.
    """
    first, second = table.view(2, 2, -1).unbind(0)
    return torch.cat([first[0], second[1], second[0], first[1]])


def kept(patterns: Tensor, numbers: range) -> Tensor:
    """Unpack patterns to masks, as `stratified.kept_passes` does.

    Args:
        patterns: (strata, numel).
        numbers: The passes, numbered within the stream.

    Returns:
        Boolean tensor (passes, numel), True where a unit is kept.
    """
    begin, end = numbers.start // _STRATUM, -(-numbers.stop // _STRATUM)
    bits = patterns[begin:end].unsqueeze(1) & _bits(patterns.device).view(-1, 1)
    skipped = numbers.start - begin * _STRATUM
    return (bits == 0).flatten(0, 1)[skipped : skipped + len(numbers)]


def scaled(x: Tensor, keep: Tensor, scale: float) -> Tensor:
    """Return ``x * keep * scale`` in one launch.

    Args:
        x: Values; broadcasts with `keep`.
        keep: Boolean mask.
        scale: Factor of the kept units.
    """
    return torch.addcmul(_zero(x.dtype, x.device), x, keep, value=scale)


@lru_cache(maxsize=256)
def steps(first: int, n_strata: int, extra: int, bits: int, device: torch.device) -> Tensor:
    """Return (k + 1) extra for the strata k from `first` on, modulo 2^bits as signed integers."""
    whole = ((first + 1 + np.arange(n_strata)) * extra).astype(f"int{bits}")
    with torch.inference_mode(mode=False):
        return torch.from_numpy(whole).to(device)


@lru_cache(maxsize=16)
def _zero(dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.zeros((), dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _bits(device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.from_numpy((1 << np.arange(_STRATUM)).astype(np.int16)).to(device)
