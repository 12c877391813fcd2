"""Why some lines are not run and some faults are not noticed, though nothing is wrong with that."""

from __future__ import annotations

__all__ = ["LINES", "MUTANTS"]

LINES: dict[str, str] = {
    "_masks/numba_kernels.py": "compiled by Numba, where lines are not counted; tested against "
    "NumPy's to the last bit",
}
"""By file, why lines of it are not run by the default suite on one machine."""

MUTANTS: dict[str, str] = {
    "mcdrop/metrics/brier.py:105: True -> False": "`strict` of a zip over arrays of one length",
    "mcdrop/metrics/_resampling.py:194: 1 -> 2": "noticed since, by the test of the median's bias",
    "mcdrop/metrics/regression_tests.py:206: 1.0 -> 2.0": "noticed since, by the test of the "
    "smallest of several p-values",
    "mcdrop/metrics/_resampling.py:31: 1.0 -> 2.0": "a bound between two intervals that both "
    "hold, for the reason beside it",
    "mcdrop/_masks/streams.py:59: 1 -> 2": "any 62 bits of the digest seed the generator as well "
    "as 63; runs on a device alone",
}
"""By mutant, why it cannot be noticed, or computes the same."""
