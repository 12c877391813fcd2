"""Numba's kernels as the plain Python they are written in: no Numba, and work of any size."""

from __future__ import annotations

from mcdrop._masks import numba_kernels
from mcdrop._masks.numba_kernels import Compiled

__all__ = ["PLAIN"]

PLAIN = Compiled(
    numba_kernels._drop_by_pattern,
    numba_kernels._drop_by_lane,
    numba_kernels._choose_patterns,
    numba_kernels._kept_by_pattern,
)
