"""Bounds on what rare passes that were not drawn would add.

The jackknife knows only the passes that ran. An event that none of S passes showed has, with 95 %
confidence, a probability of at most q = 3 / S: (1 - q)^S = 0.05 (the rule of three; Hanley &
Lippman-Hand 1983). This module bounds what passes of probability q add to mean, variance and mutual
information, given where such passes may lie:

- at the most extreme pass that was drawn, and
- for probabilities, in the tail of probability q of the normal distribution fitted to the logits.
  Logits sum many units and are nearly normal in wide networks, while the probabilities of unlikely
  classes are nearly lognormal: few passes then make up most of their variance.

Both vanish as S grows. Rarer masks of larger influence than any pass drawn stay unknown; how likely
it is that a unit was not dropped once is known, see `never_dropped`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._masks.stratified import CYCLE

__all__ = ["Missed", "Tails", "never_dropped"]

_CONFIDENCE = 0.95
_NODES = 5
# Probabilities are kept this far from 0 and 1; float32 cannot resolve 1 - p below 6e-8.
_LEAST = 1e-12
_MOST = 1 - 1e-7


@dataclass(frozen=True)
class Missed:
    """The most that passes which were not drawn may add, at 95 % confidence.

    Attributes:
        mean: Shift of the mean over passes, in either direction, (n, ...).
        variance: Increase of the variance over passes, (n, ...).
        divergence: Increase of E[p log(p / mean)], whose sum over classes is the mutual
            information, (n, C, ...), nats; None unless values are probabilities.
    """

    mean: Tensor
    variance: Tensor
    divergence: Tensor | None

    def or_more(self, other: Missed) -> Missed:
        """Return the larger of two bounds, for each quantity."""
        both = self.divergence is not None and other.divergence is not None
        return Missed(
            torch.maximum(self.mean, other.mean),
            torch.maximum(self.variance, other.variance),
            torch.maximum(self.divergence, other.divergence) if both else None,  # type: ignore[arg-type]
        )


class Tails:
    """Extremes of the passes and, for probabilities, the moments of their logits.

    Args:
        probabilities: Whether values are probabilities.
    """

    def __init__(self, *, probabilities: bool = False) -> None:
        self._probabilities = probabilities
        self._count = 0
        self._lowest = self._highest = torch.zeros(0, device="cpu")
        self._center = self._sums = self._squares = torch.zeros(0, device="cpu")

    def update(self, chunk: Tensor) -> None:
        """Add passes, shape (s, ...)."""
        lowest, highest = chunk.amin(dim=0), chunk.amax(dim=0)
        if self._count:
            lowest = torch.minimum(lowest, self._lowest)
            highest = torch.maximum(highest, self._highest)
        self._lowest, self._highest = lowest, highest
        if self._probabilities:
            logits = torch.logit(chunk.clamp(_LEAST, _MOST))
            if not self._count:
                self._center = logits.mean(dim=0)
                self._sums = torch.zeros_like(self._center)
                self._squares = torch.zeros_like(self._center)
            logits -= self._center
            self._sums += logits.sum(dim=0)
            self._squares += logits.square_().sum(dim=0)
        self._count += len(chunk)

    def rows(self, rows: Tensor) -> Self:
        """Return the tails of some rows.

        Args:
            rows: Indices along dimension 1 of the chunks.
        """
        part = copy(self)
        part._lowest, part._highest = self._lowest[rows], self._highest[rows]
        if self._probabilities:
            part._center, part._sums = self._center[rows], self._sums[rows]
            part._squares = self._squares[rows]
        return part

    def missed(self, mean: Tensor) -> Missed:
        """Bound what passes that were not drawn may add.

        Args:
            mean: Mean over passes, (n, ...).
        """
        if not self._probabilities:
            lowest, highest = self._lowest.to(mean), self._highest.to(mean)
            farthest = torch.maximum(highest - mean, mean - lowest)
            missed = _missed_probability(self._count)
            return Missed(missed * farthest, missed * farthest.square(), None)
        shift, variance, divergence = (torch.zeros_like(mean) for _ in range(3))
        for places in self._places(mean):
            one_shift, one_variance, one_divergence = (torch.zeros_like(mean) for _ in range(3))
            for probability, place in places:
                distance = place - mean
                one_shift += probability * distance
                one_variance += probability * distance.square()
                one_divergence += probability * _divergence(place, mean)
            shift = torch.maximum(shift, one_shift.abs())
            variance = torch.maximum(variance, one_variance)
            divergence = torch.maximum(divergence, one_divergence)
        return Missed(shift, variance, divergence)

    def _places(self, mean: Tensor) -> Iterator[list[tuple[float, Tensor]]]:
        """Yield distributions of the passes that were not drawn, as weighted points."""
        missed = _missed_probability(self._count)
        for extreme in (self._lowest, self._highest):
            yield [(missed, extreme.to(mean))]
        if self._count < 2:
            return
        center = self._sums / self._count
        variance = (self._squares / self._count - center.square()).clamp_min_(0)
        std = (variance * _variance_widening(self._count)).sqrt_()
        for sign in (-1, 1):
            yield [
                (weight, torch.sigmoid(self._center + center + sign * z * std))
                for weight, z in _normal_tail(self._count)
            ]


def never_dropped(rate: float, n_samples: int, *, stratified: bool) -> float:
    """Return the probability that no pass drops a unit; that none keeps it, for rates above 1/2.

    Stratified masks drop a unit in floor(r p) or ceil(r p) of r passes of a cycle, so in none with
    probability 1 - r p, or 0 where r p >= 1.

    Args:
        rate: Probability p that one pass drops the unit, in (0, 1).
        n_samples: Passes.
        stratified: Whether masks are stratified.
    """
    rare = min(rate, 1 - rate)
    if not stratified:
        return float((1 - rare) ** n_samples)
    cycles, rest = divmod(n_samples, CYCLE)
    return float(max(0.0, 1 - CYCLE * rare) ** cycles * max(0.0, 1 - rest * rare))


def _divergence(place: Tensor, mean: Tensor) -> Tensor:
    """Return p log(p / mean) - (p - mean), the addend of p to the mutual information."""
    floor = mean.clamp_min(torch.finfo(mean.dtype).tiny)
    return torch.special.xlogy(place, place / floor) - (place - mean)


def _missed_probability(count: int) -> float:
    return min(0.5, -math.log(1 - _CONFIDENCE) / count)


@cache
def _variance_widening(count: int) -> float:
    """Return the upper confidence limit of a normal variance over its mean square."""
    # scipy has the quantile, but takes longer to load than a first prediction.
    shape = torch.tensor((count - 1) / 2, dtype=torch.float64, device="cpu")
    low, high = 0.0, float(count)
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        above = torch.special.gammaincc(shape, torch.full_like(shape, middle / 2))
        low, high = (middle, high) if above > _CONFIDENCE else (low, middle)
    return count / high


@cache
def _normal_tail(count: int) -> tuple[tuple[float, float], ...]:
    """Return weighted points for the upper tail of the standard normal distribution.

    With u uniform on (0, 1), x(q u) runs through the tail of probability q. Substituting
    u = exp(-t) gives an integral over exp(-t), which Gauss-Laguerre quadrature resolves far out.
    """
    missed = _missed_probability(count)
    nodes, weights = np.polynomial.laguerre.laggauss(_NODES)
    places = -torch.special.ndtri(torch.from_numpy(missed * np.exp(-nodes)))
    return tuple(zip((missed * weights).tolist(), places.tolist(), strict=True))
