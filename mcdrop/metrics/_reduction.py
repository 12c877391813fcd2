"""A metric half done: what it keeps of the rows, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from mcdrop.metrics._arrays import Float64, float64

R = TypeVar("R")
Metric = TypeVar("Metric", bound=Callable[..., Any])

_REDUCTIONS: dict[Callable[..., Any], Callable[..., Reduction[Any]]] = {}


@dataclass(frozen=True)
class Reduction(Generic[R]):
    """What a metric keeps of some rows and the function that turns it into the answer.

    Where `additive`, `kept` holds sums over rows, so batches are added. Otherwise it holds
    columns, one value per row along the last axis, so batches are joined. A one-shot call is
    ``reduction.result()``; a stream merges `kept` over batches and finishes the same way.
    """

    kept: Float64
    finish: Callable[[Float64], R]
    additive: bool = True

    def fits(self, kept: Float64) -> bool:
        """Whether what another batch kept can be added or joined."""
        mine, other = self.kept.shape, kept.shape
        return mine == other if self.additive else mine[:-1] == other[:-1]

    def result(self) -> R:
        """Finish the metric on the rows seen."""
        return self.finish(self.kept)


def mean_of(
    rows: torch.Tensor,
    weights: torch.Tensor,
    finish: Callable[[Float64], float] | None = None,
) -> Reduction[float]:
    """Weighted mean over rows; `finish` takes (weighted sum, sum of weights)."""
    rows = rows.detach()
    kept = float64(torch.stack([(weights * rows).sum(), weights.sum()]))
    return Reduction(kept, finish or ratio)


def ratio(kept: Float64) -> float:
    """Weighted sum over sum of weights."""
    return float(kept[0] / kept[1])


def root_ratio(kept: Float64) -> float:
    """Square root of the weighted mean."""
    return float(np.sqrt(kept[0] / kept[1]))


def reduces_by(reduce: Callable[..., Reduction[Any]]) -> Callable[[Metric], Metric]:
    """Note the reduction, of the same signature, that a public metric finishes."""

    def note(metric: Metric) -> Metric:
        _REDUCTIONS[metric] = reduce
        return metric

    return note


def reduction_of(metric: Callable[..., Any]) -> Callable[..., Reduction[Any]] | None:
    """Look up the reduction of a metric; None if it has none."""
    return _REDUCTIONS.get(metric)
