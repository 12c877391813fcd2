"""Kernels that Numba compiles where it is installed: mask and product in one walk over memory.

What is not compiled here is done by NumPy in several walks, to the same last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Compiled", "compiled", "load"]

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.signedinteger[Any]]
Patterns = npt.NDArray[np.int16]
Booleans = npt.NDArray[np.bool_]


# Fewer units are done by NumPy before a compiled kernel has been called.
_LEAST = 2**12
_WORTH_LOADING = 2**24


@dataclass(frozen=True)
class Compiled:
    """The compiled kernels.

    Attributes:
        drop_by_pattern: See `_drop_by_pattern`.
        drop_by_lane: See `_drop_by_lane`.
        choose_patterns: See `_choose_patterns`.
        kept_by_pattern: See `_kept_by_pattern`.
    """

    drop_by_pattern: Callable[[Floats, Patterns, int, Any, Floats], None]
    drop_by_lane: Callable[[Floats, Integers, int, Any, Floats], None]
    choose_patterns: Callable[[Patterns, Patterns, Integers, Integers, int, Patterns], None]
    kept_by_pattern: Callable[[Patterns, int, Booleans], None]


class _Demand:
    """How much has been asked for so far in this process."""

    units = 0


def compiled(units: int) -> Compiled | None:
    """Return the kernels, if Numba is there and there is enough to do.

    Loading Numba takes as long as NumPy takes for many small predictions, so it waits until that
    much has been done. The numbers are the same.

    Args:
        units: How many units of masks are to be drawn or applied now.
    """
    if units < _LEAST:
        return None
    _Demand.units += units
    return load() if _Demand.units >= _WORTH_LOADING else None


@cache
def load() -> Compiled | None:
    """Return the kernels, or None without Numba; each is compiled when first called."""
    try:
        import numba
    except ImportError:
        return None
    if numba.config.DISABLE_JIT:
        return None

    def compile_once(kernel: Any) -> Any:
        """Compile when first called, and keep the code on disk where there is a place for it."""
        try:
            return numba.njit(cache=True, nogil=True)(kernel)
        except RuntimeError:
            return numba.njit(nogil=True)(kernel)

    return Compiled(
        compile_once(_drop_by_pattern),
        compile_once(_drop_by_lane),
        compile_once(_choose_patterns),
        compile_once(_kept_by_pattern),
    )


def _drop_by_pattern(x: Floats, patterns: Patterns, first: int, scale: Any, out: Floats) -> None:
    """Write ``x * keep * scale``, where bit s of pattern [b, i] drops unit i in pass 16 b + s.

    Args:
        x: Values, (passes, units), or (1, units) where they do not differ by pass.
        patterns: (strata, units).
        first: Number of the first pass within the patterns.
        scale: What the survivors are multiplied by, of the type of `x`.
        out: The product, (passes, units).
    """
    dropped = x.dtype.type(0)
    for row in range(len(out)):
        values, product = x[row % len(x)], out[row]
        stratum, place = divmod(first + row, 8 * patterns.itemsize)
        chosen = patterns[stratum]
        for unit in range(len(product)):
            product[unit] = values[unit] * (dropped if (chosen[unit] >> place) & 1 else scale)


def _drop_by_lane(x: Floats, lanes: Integers, threshold: int, scale: Any, out: Floats) -> None:
    """Write ``x * keep * scale``, where a unit is kept if its random integer is large enough.

    Args:
        x: As above.
        lanes: One integer for every unit and pass, (passes, units).
        threshold: The least integer that keeps a unit.
        scale: As above.
        out: As above.
    """
    dropped = x.dtype.type(0)
    for row in range(len(out)):
        values, drawn, product = x[row % len(x)], lanes[row], out[row]
        for unit in range(len(product)):
            product[unit] = values[unit] * (scale if drawn[unit] >= threshold else dropped)


def _choose_patterns(
    table: Patterns, picks: Patterns, starts: Integers, steps: Integers, window: int, out: Patterns
) -> None:
    """Look patterns up: in the second half of the table where a stratum drops once more.

    Args:
        table: 2^16 patterns, then 2^16 of one drop more.
        picks: Random bits, (cycles, strata, units).
        starts: Where a unit begins on its circle, (cycles, 1, units).
        steps: How far a stratum is from there, (cycles, strata, 1); sums wrap around.
        window: A stratum whose place is below this drops once more.
        out: The patterns, (cycles, strata, units).
    """
    half = len(table) // 2
    for cycle in range(out.shape[0]):
        begun = starts[cycle, 0]
        for stratum in range(out.shape[1]):
            step, lanes, chosen = (
                steps[cycle, stratum, 0],
                picks[cycle, stratum],
                out[cycle, stratum],
            )
            for unit in range(out.shape[2]):
                place = starts.dtype.type(begun[unit] + step)
                where = np.int64(lanes[unit]) & (half - 1)
                chosen[unit] = table[where + half if place < window else where]


def _kept_by_pattern(patterns: Patterns, first: int, out: Booleans) -> None:
    """Write which units are kept.

    Args:
        patterns: (strata, units).
        first: Number of the first pass within the patterns.
        out: True where a unit is kept, (passes, units).
    """
    for row in range(len(out)):
        kept = out[row]
        stratum, place = divmod(first + row, 8 * patterns.itemsize)
        chosen = patterns[stratum]
        for unit in range(len(kept)):
            kept[unit] = (chosen[unit] >> place) & 1 == 0
