"""Why some lines are not run and some faults are not noticed, though nothing is wrong with that."""

from __future__ import annotations

__all__ = ["LINES", "MUTANTS"]

LINES: dict[str, str] = {
    "_masks/numba_kernels.py": "compiled by Numba, where lines are not counted; tested against "
    "NumPy's to the last bit",
}
"""By file, why lines of it are not run by the default suite on one machine."""

MUTANTS: dict[str, str] = {
    "mcdrop/_masks/streams.py:59: 1 -> 2": "any 62 bits of the digest seed the generator as well "
    "as 63; runs on a device alone",
}
"""By mutant, why it cannot be noticed, or computes the same."""
