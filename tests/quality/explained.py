"""Why some lines are not run and some faults are not noticed, though nothing is wrong with that."""

from __future__ import annotations

__all__ = ["LINES", "MUTANTS"]

LINES: dict[str, str] = {
    "_masks/numba_kernels.py": "compiled by Numba, where lines are not counted; tested against "
    "NumPy's to the last bit",
}
"""By file, why lines of it are not run by the default suite on one machine."""

MUTANTS: dict[str, tuple[str, ...]] = {}
"""By reason, the mutants that compute the same or cannot be noticed, as the record names them."""
