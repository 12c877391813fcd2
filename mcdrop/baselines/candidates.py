"""What a baseline chooses from by held-out likelihood: one number, or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Real

from mcdrop.errors import RangeError

__all__ = ["checked_decays", "checked_open_rates", "checked_penalty", "checked_rates"]


def checked_rates(function: str, p: object) -> tuple[float, ...]:
    """Return dropout rates to train with; 0 trains without dropout."""
    return _checked(function, "p", p, lambda rate: 0 <= rate < 1, "in [0, 1)", "Pass [0.05, 0.2]")


def checked_open_rates(function: str, p: object) -> tuple[float, ...]:
    """Return dropout rates to sample with."""
    remedy = "For no dropout see mcdrop.baselines.Deterministic"
    return _checked(function, "p", p, lambda rate: 0 < rate < 1, "in (0, 1)", remedy)


def checked_decays(function: str, weight_decay: object) -> tuple[float, ...]:
    """Return penalties to choose from."""
    return _checked(
        function,
        "weight_decay",
        weight_decay,
        lambda decay: 0 <= decay < math.inf,
        "of at least 0",
        "Pass [1e-5, 1e-4]",
    )


def checked_penalty(function: str, argument: str, value: object, *, zero: bool = False) -> None:
    """Require a number above 0, or of at least 0 where `zero` is allowed; or "cv"."""
    number = _number(value)
    if isinstance(value, str) and value == "cv":
        return
    if not 0 < number < math.inf and not (zero and number == 0):
        condition = f'be "cv" or a number {">=" if zero else ">"} 0'
        raise RangeError.of(function, argument, condition, repr(value), "Pass a penalty")


def _checked(
    function: str,
    argument: str,
    values: object,
    fits: Callable[[float], bool],
    where: str,
    remedy: str,
) -> tuple[float, ...]:
    """Return one number or several as floats; refuse none, and those that do not fit."""
    listed = values.tolist() if hasattr(values, "tolist") else values
    several = isinstance(listed, Iterable) and not isinstance(listed, str | bytes)
    found = [_number(value) for value in (listed if several else [listed])]  # type: ignore[union-attr]
    if found and all(map(fits, found)):
        return tuple(found)
    condition = f"be a number {where}, or several to choose from"
    raise RangeError.of(function, argument, condition, repr(values), remedy)


def _number(value: object) -> float:
    """Return a number as a float, anything else as NaN, which fails every comparison."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    return float(value)
