"""Stratified masks of fewer than 32 passes: balanced as a whole, independent within each line.

Two passes of a stratum of 16 are negatively correlated for every unit, so from a single stratum
the variance over passes cannot be told from that of their mean. Where there are no two strata, the
16 passes lie on a grid of 4 x 4 instead, row by row. They are as balanced as the rate allows, but
the passes of one row, and those of one column, are independent of one another: exactly as four
passes drawn without stratification. What needs independent passes is estimated within these lines.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

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
    table = alias_table(*rate)
    # Grids are numbered from 0, so negative numbers are free for the second draw.
    keys = key, (*key[:2], -1 - key[2])
    if not streams.on_cpu:
        picks, places = (
            streams.lanes(rows * units, 16, name).to(torch.int64) & 0xFFFF for name in keys
        )
        patterns, limits = (
            torch.from_numpy(x).to(picks.device) for x in (table.patterns, table.limits)
        )
        index = picks + table.patterns.shape[1] * (places >= limits[picks >> 4])
        return patterns.flatten()[index].view(1, rows, units)
    picked, placed = (streams.array(rows * units, 16, name).view(np.uint16) for name in keys)
    out = np.empty(rows * units, dtype=np.int16)
    for some in tiles(len(out), _SLOW_STEPS):
        index = picked[some].astype(np.int32)
        second = placed[some] >= table.limits[picked[some] >> 4]
        index += np.left_shift(second, 16, dtype=np.int32)
        np.take(table.patterns.ravel(), index, mode="wrap", out=out[some])
    return torch.from_numpy(out).view(1, rows, units)
