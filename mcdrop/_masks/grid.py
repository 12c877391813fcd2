"""Stratified masks of fewer than 32 passes: balanced as a whole, independent within each line.

Two passes of a stratum of 16 are negatively correlated for every unit, so from a single stratum
the variance over passes cannot be told from that of their mean. Where there are no two strata, the
16 passes lie on a grid of 4 x 4 instead, row by row. They are as balanced as the rate allows, but
the passes of one row, and those of one column, are independent of one another: exactly as four
passes drawn without stratification. What needs independent passes is estimated within these lines.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mcdrop._masks.device_kernels import looked_up, signed_table
from mcdrop._masks.grid_law import SIDE, alias_table
from mcdrop._masks.numpy_kernels import tiles
from mcdrop._masks.streams import Streams

__all__ = ["FEWEST_IN_STRATA", "SIDE", "grid_patterns", "independent_sets", "on_grid"]

_STRATUM = SIDE * SIDE

FEWEST_IN_STRATA = 2 * _STRATUM
"""Passes from which on strata are drawn and compared as a whole, rather than on a grid."""

# Cost of looking up one pattern, in multiplications; sets the size of the tiles.
_SLOW_STEPS = 8


def on_grid(n_samples: int | None, *, stratified: bool) -> bool:
    """Tell whether passes lie on a grid.

    Args:
        n_samples: Passes of the whole run; None if unknown in advance, then 32 or more.
        stratified: Whether they are stratified.
    """
    return stratified and n_samples is not None and n_samples < FEWEST_IN_STRATA


def independent_sets(n_samples: int) -> tuple[tuple[int, ...], ...]:
    """Return sets of passes on the grid that are independent of one another, by number.

    These are its rows, then its columns, of two passes or more. From pass 16 on a second grid
    is filled, which is independent of the first, and its lines are added to theirs.

    Args:
        n_samples: Passes of the whole run.
    """
    passes = range(n_samples)
    rows = (tuple(t for t in passes if t % _STRATUM // SIDE == line) for line in range(SIDE))
    columns = (tuple(t for t in passes if t % SIDE == line) for line in range(SIDE))
    return tuple(line for line in (*rows, *columns) if len(line) > 1)


def grid_patterns(
    streams: Streams, rate: tuple[int, int], shape: tuple[int, int], key: tuple[int, int, int]
) -> Tensor:
    """Draw in which of the 16 passes of one grid each unit is dropped.

    Args:
        streams: Source of random bits.
        rate: The rate as a fraction of 2^bits, in [1, 2^bits), and bits, 16 or 32.
        shape: Rows, the first of a block, and units of one row.
        key: Number of the block of rows, site, and number of the grid.

    Returns:
        int16 tensor (1, rows, units); bit s is set where pass s of the grid drops the unit.
    """
    rows, units = shape
    # Grids are numbered from 0, so negative numbers are free for the second draw.
    keys = key, (*key[:2], -1 - key[2])
    if not streams.on_cpu:
        patterns, limits = _on_device(*rate, streams.device)
        picks, places = (streams.lanes(rows * units, 16, name) for name in keys)
        picks = picks.to(torch.int64)
        second = torch.empty_like(picks)
        # With the sign bit flipped, signed integers are in the order of unsigned ones.
        torch.ge(places ^ -(2**15), limits[picks], out=second)
        return looked_up(patterns, picks, second).view(1, rows, units)
    table = alias_table(*rate)
    picked, placed = (streams.array(rows * units, 16, name).view(np.uint16) for name in keys)
    out = np.empty(rows * units, dtype=np.int16)
    for some in tiles(len(out), _SLOW_STEPS):
        index = picked[some].astype(np.int32)
        second = placed[some] >= table.limits[picked[some] >> 4]
        index += np.left_shift(second, 16, dtype=np.int32)
        np.take(table.patterns.ravel(), index, mode="wrap", out=out[some])
    return torch.from_numpy(out).view(1, rows, units)


@lru_cache(maxsize=64)
def _on_device(numerator: int, bits: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the patterns of an alias table, ordered by signed picks, and a limit for each pick."""
    table = alias_table(numerator, bits)
    patterns = torch.from_numpy(table.patterns.ravel())
    limits = torch.from_numpy(table.limits - 2**15).repeat_interleave(16)
    with torch.inference_mode(mode=False):
        return signed_table(patterns).to(device), limits.to(device)
