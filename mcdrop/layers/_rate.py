"""The one check of a dropout rate."""

from __future__ import annotations

from mcdrop.errors import RangeError

__all__ = ["checked_rate"]


def checked_rate(function: str, p: float) -> float:
    """Return `p` as a float, or refuse it: a rate of 1 would leave nothing to scale up."""
    if not isinstance(p, int | float) or not 0 <= p < 1:
        raise RangeError.of(
            function,
            "p",
            "lie in [0, 1)",
            repr(p),
            "Pass the probability with which a unit is dropped",
        )
    return float(p)
