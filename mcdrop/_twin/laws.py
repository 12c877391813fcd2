"""Laws of random draws: what values a draw may take, and averages over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcdrop._live.functorch import aten
from mcdrop._live.global_random import seeded
from mcdrop._live.operators import takes_generator

__all__ = ["Answer", "Law", "drawn", "ends", "expectation", "law_of"]

# Points of a draw, each with its weight.
Points = list[tuple[float, float]]
Law = Points | tuple[float, float]
"""Points of a draw, each with its weight; or the ends of the interval that it is uniform on."""

# Below 1 by one step of float32, as large as a uniform number gets.
_TOP = 1 - 2.0**-24


@dataclass(frozen=True)
class Answer:
    """The expectation of a result.

    Attributes:
        mean: The expectation.
        meets: "mask" if a value of the draw makes the result zero, so that units are dropped;
            else "noise".
    """

    mean: Tensor
    meets: str


def expectation(
    law: Law | None, of: Callable[[float], Tensor] | None, at: Callable[[float], Any]
) -> Answer | None:
    """Average a result over a draw: exact where it is linear in it, or in a threshold of it.

    Args:
        law: The law of the draw.
        of: Computes from a value of the draw the noise that the result depends on.
        at: Computes the result.
    """
    if of is None or law is None:
        return None
    points = law if isinstance(law, list) else _points(law, of)
    parts = [(at(value), weight) for value, weight in points]
    if not all(isinstance(x, Tensor) and x.is_floating_point() for x, _ in parts):
        return None
    mean = sum(x * weight for x, weight in parts)
    drops = any(not bool(x.any()) for x, _ in parts)
    return Answer(mean.to(parts[0][0].dtype), "mask" if drops else "noise")


def _points(law: tuple[float, float], of: Callable[[float], Tensor]) -> Points:
    """Return points of a uniform draw: the two sides of a threshold, or those of a line."""
    low, high = law

    def at(share: float) -> Tensor:
        return of(low + (high - low) * share)

    first, last = at(0.0), at(_TOP)
    inside = (at(share) for share in (0.25, 0.5, 0.75))
    if not all(bool(((x == first) | (x == last)).all()) for x in inside):
        # Gauss-Legendre: exact up to cubic functions of the draw.
        half = 0.5 / math.sqrt(3.0)
        return [(low + (high - low) * (0.5 + sign * half), 0.5) for sign in (-1, 1)]
    left, right = 0.0, 1.0
    for _ in range(22):
        middle = (left + right) / 2
        left, right = (middle, right) if torch.equal(at(middle), first) else (left, middle)
    return [(low, left), (low + (high - low) * _TOP, 1 - left)]


def ends(law: Law | None) -> list[float]:
    """Return the extreme values of a draw."""
    if law is None:
        return []
    if isinstance(law, list):
        return [value for value, _ in law]
    low, high = law
    return [low, low + (high - low) * _TOP]


def law_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Law | None:
    """Return what a draw may be; None if that is not known."""
    rest = [x for x in args[1:] if isinstance(x, int | float)]
    if name in ("bernoulli", "bernoulli_"):
        keep = _probability(name, args, kwargs, rest)
        return None if keep is None else [(0.0, 1 - keep), (1.0, keep)]
    if name in ("rand", "rand_like"):
        return 0.0, 1.0
    if name == "uniform_":
        bounds = [*rest, *(kwargs.get("from", 0.0), kwargs.get("to", 1.0))[len(rest) :]]
        return float(bounds[0]), float(bounds[1])
    if name in ("randn", "randn_like", "normal_"):
        # Gauss-Hermite: exact up to cubic functions of the draw.
        defaults = (kwargs.get("mean", 0.0), kwargs.get("std", 1.0))
        mean, std = (*rest, *defaults[len(rest) :]) if name == "normal_" else (0.0, 1.0)
        return [(mean - std, 0.5), (mean + std, 0.5)]
    return None


def _probability(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], rest: list[Any]
) -> float | None:
    """Return the probability of a one, if all items have the same."""
    if rest or isinstance(kwargs.get("p"), int | float):
        return float(rest[0] if rest else kwargs["p"])
    others = [x for x in (*args[1:], kwargs.get("p")) if isinstance(x, Tensor)]
    if not others and name == "bernoulli_":
        return 0.5
    p = (others or [args[0]])[0]
    if p.numel() == 0 or bool((p != p.flatten()[0]).any()):
        return None
    return float(p.flatten()[0])


def drawn(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> Any:
    """Draw from a generator of its own where the operator takes one."""
    x = next((x for x in args if isinstance(x, Tensor)), None)
    device = kwargs.get("device") or (torch.device("cpu") if x is None else x.device)
    if kwargs.get("generator") is not None or torch.device(device).type == "meta":
        return func(*args, **kwargs)
    generator = torch.Generator(device).manual_seed(seed)
    if takes_generator(func):
        return func(*args, **{**kwargs, "generator": generator})
    if name in ("rand_like", "randn_like") and x is not None:
        fresh = torch.empty_like(x, **{k: v for k, v in kwargs.items() if k != "generator"})
        return (
            fresh.uniform_(generator=generator)
            if name == "rand_like"
            else fresh.normal_(generator=generator)
        )
    # As "generator" of "default", and "low_generator" of "low".
    overload = f"{str(func).split('.')[2]}_generator".removeprefix("default_")
    for operator in aten(name, overload)[:1]:
        return operator(*args, **{**kwargs, "generator": generator})
    with seeded(seed):
        return func(*args, **kwargs)
