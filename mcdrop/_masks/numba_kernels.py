"""Kernels that Numba compiles where it is installed: mask and product in one loop.

They are compiled in the background, so that no prediction waits for them; until then, and for what
is not compiled here, NumPy does the same in several walks, to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mcdrop._masks.background import Background

__all__ = ["UNITS_WORTH_COMPILING", "Compiled", "compiled", "load", "prepare"]

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.signedinteger[Any]]
PatternBits = npt.NDArray[np.int16]
Booleans = npt.NDArray[np.bool_]

UNITS_WORTH_COMPILING = 2**24
"""Units of masks that a wrapper draws before it asks for the kernels: NumPy takes 20 ms for these,
while loading Numba keeps a core busy for about a second."""

# A call of a kernel takes as long as NumPy takes for so many units.
_LEAST = 2**12


@dataclass(frozen=True)
class Compiled:
    """The compiled kernels.

    Attributes:
        drop_by_pattern: See `_drop_by_pattern`.
        drop_by_lane: See `_drop_by_lane`.
        choose_patterns: See `_choose_patterns`.
        kept_by_pattern: See `_kept_by_pattern`.
    """

    drop_by_pattern: Callable[[Floats, PatternBits, int, Any, Floats], None]
    drop_by_lane: Callable[[Floats, Integers, int, Any, Floats], None]
    choose_patterns: Callable[
        [PatternBits, PatternBits, Integers, Integers, int, int, PatternBits], None
    ]
    kept_by_pattern: Callable[[PatternBits, int, Booleans], None]


def prepare(*, wait: bool = False) -> None:
    """Compile the kernels in the background, once per process.

    Args:
        wait: Return only when that is done.
    """
    if wait:
        _loader.wait()
    else:
        _loader.start()


def compiled(units: int) -> Compiled | None:
    """Return the kernels if they are ready and there is enough to do. The numbers are the same.

    Args:
        units: Units of masks that are to be drawn or applied now.
    """
    return _loader.found if units >= _LEAST else None


@cache
def load() -> Compiled | None:
    """Compile the kernels and return them; None without Numba."""
    try:
        import numba
    except ImportError:
        return None
    if numba.config.DISABLE_JIT:
        return None

    def compile_for(kernel: Any, *signatures: str) -> Any:
        """Compile for these types, and keep the code on disk where there is a place for it."""
        try:
            return numba.njit(list(signatures), cache=True, nogil=True)(kernel)
        except RuntimeError:
            return numba.njit(list(signatures), nogil=True)(kernel)

    floats = ("float32", "float64")
    integers = ("int16", "int32")
    return Compiled(
        compile_for(
            _drop_by_pattern,
            *(f"void({x}[:,::1], int16[:,::1], int64, {x}, {x}[:,::1])" for x in floats),
        ),
        compile_for(
            _drop_by_lane,
            *(
                f"void({x}[:,::1], {lanes}[:,::1], int64, {x}, {x}[:,::1])"
                for x in floats
                for lanes in integers
            ),
        ),
        compile_for(
            _choose_patterns,
            *(
                f"void(int16[::1], int16[:,:,::1], {u}[:,:,::1], {u}[::1], int64, int64,"
                " int16[:,:,::1])"
                for u in integers
            ),
        ),
        compile_for(_kept_by_pattern, "void(int16[:,::1], int64, boolean[:,::1])"),
    )


_loader = Background(load)


def _drop_by_pattern(x: Floats, patterns: PatternBits, first: int, scale: Any, out: Floats) -> None:
    """Write ``x * keep * scale``, where bit s of pattern [b, i] drops unit i in pass 16 b + s.

    Args:
        x: Values, (passes, units), or (1, units) where they are the same for all passes.
        patterns: (strata, units).
        first: Number of the first pass within the patterns.
        scale: Factor of the kept units, of the type of `x`.
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
    table: PatternBits,
    picks: PatternBits,
    starts: Integers,
    steps: Integers,
    per_cycle: int,
    limit: int,
    out: PatternBits,
) -> None:
    """Look patterns up, in the second half of the table where a stratum drops one extra time.

    Args:
        table: 2^16 patterns of `fewest` drops, then 2^16 of one more.
        picks: Random bits, (rows, strata, units).
        starts: u of the rule "extra drop iff (u + k * extra) mod 2^b < extra", (rows, cycles,
            units).
        steps: k * extra, (strata,); sums wrap modulo 2^b.
        per_cycle: Strata per cycle.
        limit: Sums below this mean an extra drop.
        out: The patterns, (strata, rows, units).
    """
    half = len(table) // 2
    for stratum in range(out.shape[0]):
        step = steps[stratum]
        for row in range(out.shape[1]):
            begun = starts[row, stratum // per_cycle]
            lanes, chosen = picks[row, stratum], out[stratum, row]
            for unit in range(out.shape[2]):
                place = starts.dtype.type(begun[unit] + step)
                where = np.int64(lanes[unit]) & (half - 1)
                chosen[unit] = table[where + half if place < limit else where]


def _kept_by_pattern(patterns: PatternBits, first: int, out: Booleans) -> None:
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
