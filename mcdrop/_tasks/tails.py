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
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.matrices import KeptMatrix
from mcdrop._masks.stratified import CYCLE

__all__ = ["LEAST", "MOST", "Missed", "Tails", "never_dropped"]

_CONFIDENCE = 0.95
_NODES = 5
# Probabilities are kept this far from 0 and 1; float32 cannot resolve 1 - p below 6e-8.
LEAST = 1e-12
MOST = 1 - 1e-7
# Means whose places are looked at together.
_TILE = 2**16

Floats = npt.NDArray[np.float64]


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

    def where(self, wanted: Tensor) -> Missed:
        """Return the bounds where they are wanted, and 0 elsewhere."""
        shift, variance, divergence = (
            None if each is None else torch.where(wanted, each, 0)
            for each in (self.mean, self.variance, self.divergence)
        )
        return Missed(shift, variance, divergence)  # type: ignore[arg-type]

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

    def update(
        self, chunk: Tensor, least: Tensor | None = None, logits: Tensor | None = None
    ) -> None:
        """Add passes, shape (s, ...).

        Args:
            chunk: The passes.
            least: The smallest probabilities that count, (...), at least 1e-12.
            logits: Logits of the passes if they are known; overwritten.
        """
        lowest, highest = chunk.amin(dim=0), chunk.amax(dim=0)
        if self._count:
            lowest = torch.minimum(lowest, self._lowest)
            highest = torch.maximum(highest, self._highest)
        self._lowest, self._highest = lowest, highest
        if self._probabilities:
            if logits is not None:
                logits.clamp_(_logit(LEAST), _logit(MOST))
            elif least is None:
                logits = torch.logit(chunk.clamp(LEAST, MOST))
            else:
                logits = torch.maximum(chunk, least).clamp_max_(MOST).logit_()
            if not self._count:
                self._center = logits.mean(dim=0)
                self._sums = torch.zeros_like(self._center)
                self._squares = torch.zeros_like(self._center)
            logits -= self._center
            self._sums += logits.sum(dim=0)
            self._squares += logits.square_().sum(dim=0)
        self._count += len(chunk)

    def part(self, *index: Tensor | slice) -> Self:
        """Return the tails of a part of the values.

        Args:
            index: Selects along the dimensions of the chunks behind the first.
        """
        part = copy(self)
        part._lowest, part._highest = self._lowest[index], self._highest[index]
        if self._probabilities:
            part._center, part._sums = self._center[index], self._sums[index]
            part._squares = self._squares[index]
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
        parts = [
            self._missed_probabilities(mean.flatten()[some], some) for some in _tiles(mean.numel())
        ]
        return Missed(*(torch.cat(each).view_as(mean) for each in zip(*parts, strict=True)))

    def missed_beside(self, small: Tensor, mean: Tensor, sign: Tensor) -> Missed:
        """Bound what passes that were not drawn may add, from distances to the mean.

        These keep their digits in float32, as 1 - p does where p is near 1.

        Args:
            small: Mean over passes of what these tails are of, (n, ...): of p or of 1 - p.
            mean: Mean over passes of p, (n, ...).
            sign: 1 or -1 where `small` is that of p or of 1 - p, (n, ...).
        """
        mean = mean.clamp_min(LEAST)
        scale, missed = sign / mean, _missed_probability(self._count)
        extremes = torch.stack([self._lowest, self._highest]).sub_(small)
        worst = _worst(extremes, scale, lambda each: each * missed)
        if self._count > 1:
            weights, steps = _nodes_of_tails(self._count)
            center, std = (x.view_as(small) for x in self._fitted(slice(None)))
            shape = -1, 2, *(1 for _ in small.shape)
            tails = torch.addcmul(center, steps.like(std).view(shape), std).sigmoid_().sub_(small)
            of_tails = _worst(tails, scale, lambda each: weights.times(each)[0])
            worst = [torch.maximum(*each) for each in zip(worst, of_tails, strict=True)]
        shift, variance, divergence = worst
        return Missed(shift, variance, divergence.clamp_min_(0).mul_(mean))

    def _fitted(self, some: slice) -> tuple[Tensor, Tensor]:
        """Return mean and upper confidence limit of the spread of some of the logits, (k,)."""
        center, sums, squares = (
            x.flatten()[some] for x in (self._center, self._sums, self._squares)
        )
        center_of_rest = sums / self._count
        variance = (squares / self._count - center_of_rest.square()).clamp_min_(0)
        std = (variance * _variance_widening(self._count)).sqrt_()
        return center + center_of_rest, std

    def _missed_probabilities(self, mean: Tensor, some: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return shift, variance and divergence for some of the means, (k,)."""
        places, weights = self._places(mean, some)
        distance = places - mean
        tiny = torch.finfo(mean.dtype).tiny
        # p log(p / mean) - (p - mean) is the addend of p to the mutual information; 0 log 0 = 0.
        logs = (places / mean.clamp_min(tiny)).clamp_min_(tiny).log_()
        divergence = logs.mul_(places).sub_(distance)
        shift, variance, divergence = (
            weights.times(each) for each in (distance, distance.square(), divergence)
        )
        return shift.abs_().amax(dim=0), variance.amax(dim=0), divergence.amax(dim=0).clamp_min_(0)

    def _places(self, mean: Tensor, some: slice) -> tuple[Tensor, KeptMatrix]:
        """Return where passes that were not drawn may lie, (places, k), and how likely that is.

        Every row of the matrix is one distribution over the places.
        """
        extremes = [x.flatten()[some].to(mean) for x in (self._lowest, self._highest)]
        weights, steps = _distributions(self._count)
        if self._count < 2:
            return torch.stack(extremes), weights
        center, std = self._fitted(some)
        tails = torch.sigmoid(steps.like(std) * std + center)
        return torch.cat([torch.stack(extremes), tails]), weights


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


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


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
def _distributions(count: int) -> tuple[KeptMatrix, KeptMatrix]:
    """Return four distributions of the passes that were not drawn, and places of two of them.

    They lie at either extreme, or in either tail of a normal distribution.

    Returns:
        Weights of the two extremes and of the places in both tails, (4, 2 + 2 nodes), or of the
        extremes alone, (2, 2), for a single pass; these places, in standard deviations, (2 nodes,
        1).
    """
    of_tail, places = _normal_tail(count)
    weights = np.zeros((4, 2 + 2 * _NODES))
    weights[0, 0] = weights[1, 1] = _missed_probability(count)
    weights[2, 2 : 2 + _NODES] = weights[3, 2 + _NODES :] = of_tail
    steps = np.concatenate([-places, places])[:, None]
    return KeptMatrix(weights if count > 1 else weights[:2, :2]), KeptMatrix(steps)


@cache
def _nodes_of_tails(count: int) -> tuple[KeptMatrix, KeptMatrix]:
    """Return the weights of places in a tail, (1, nodes), and these places, low and high.

    Places are in standard deviations, (nodes, 2).
    """
    weights, places = _normal_tail(count)
    return KeptMatrix(weights[None]), KeptMatrix(np.stack([-places, places], axis=1))


def _worst(distance: Tensor, scale: Tensor, mean_of: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return the largest mean distance, squared distance and addend to the divergence.

    The last is p log(p / mean) - (p - mean), over the mean.

    Args:
        distance: Of places to the mean; overwritten.
        scale: One over the mean, with the sign that turns a distance into one of p.
        mean_of: Returns means over places, (2, ...), the larger of which is taken.
    """
    shift = mean_of(distance).abs_()
    relative = (distance * scale).clamp_min_(-MOST)
    logs = relative.log1p()
    divergence = mean_of(logs.addcmul_(logs, relative).sub_(relative))
    del relative, logs
    return [each.amax(dim=0) for each in (shift, mean_of(distance.square_()), divergence)]


def _normal_tail(count: int) -> tuple[Floats, Floats]:
    """Return weights and places of points for the upper tail of the standard normal distribution.

    With u uniform on (0, 1), x(q u) runs through the tail of probability q. Substituting
    u = exp(-t) gives an integral over exp(-t), which Gauss-Laguerre quadrature resolves far out.
    """
    missed = _missed_probability(count)
    nodes, weights = np.polynomial.laguerre.laggauss(_NODES)
    places = -torch.special.ndtri(torch.from_numpy(missed * np.exp(-nodes)))
    return missed * weights, places.numpy()


def _tiles(numel: int) -> Iterator[slice]:
    """Yield slices that bound the memory of all places together."""
    return (slice(first, first + _TILE) for first in range(0, max(1, numel), _TILE))
