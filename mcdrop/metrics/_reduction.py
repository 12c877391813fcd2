"""Metrics in two steps: what batches of rows can merge, and the function that finishes it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, ParamSpec, TypeVar

import numpy as np
import torch

from mcdrop.metrics._arrays import Float64, float64

P = ParamSpec("P")
R = TypeVar("R")

_REDUCTIONS: dict[Callable[..., Any], Callable[..., Reduction[Any]]] = {}


@dataclass(frozen=True)
class RowMean:
    """One value per row, (N,), and what a summary makes of their mean.

    A "share" is the mean of zeros and ones (of their mean over the outputs of a row), a "root"
    the square root of the mean.
    """

    rows: Float64
    kind: Literal["mean", "root", "share"]


@dataclass(frozen=True)
class Reduction(Generic[R]):
    """What a metric keeps of some rows and the function that turns it into the answer.

    Where `additive`, `kept` holds sums over rows, so batches are added. Otherwise it holds
    columns, one value per row along the last axis, so batches are joined. A one-shot call is
    ``reduction.result()``; a stream merges `kept` over batches and finishes the same way. A
    mean over rows of equal weight also names its rows, for intervals.
    """

    kept: Float64
    finish: Callable[[Float64], R]
    additive: bool = True
    row_mean: RowMean | None = None

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
    kind: Literal["mean", "root", "share"] = "mean",
) -> Reduction[float]:
    """Weighted mean over rows, or its root."""
    rows = rows.detach()
    kept = float64(torch.stack([(weights * rows).sum(), weights.sum()]))
    equal = bool((weights == weights[0]).all())
    row_mean = RowMean(float64(rows), kind) if equal else None
    return Reduction(kept, root_ratio if kind == "root" else ratio, row_mean=row_mean)


def ratio(kept: Float64) -> float:
    """Weighted sum over sum of weights."""
    return float(kept[0] / kept[1])


def root_ratio(kept: Float64) -> float:
    """Square root of the weighted mean."""
    return float(np.sqrt(kept[0] / kept[1]))


def finished(reduce: Callable[P, Reduction[R]]) -> Callable[P, R]:
    """Turn a function that reduces rows into the public metric, which finishes the reduction."""

    @functools.wraps(reduce)
    def metric(*args: P.args, **kwargs: P.kwargs) -> R:
        return reduce(*args, **kwargs).result()

    _REDUCTIONS[metric] = reduce
    _show_result_type(metric, reduce)
    return metric


def _show_result_type(metric: Callable[..., Any], reduce: Callable[..., Any]) -> None:
    """Let `help` and `inspect` show "-> float" where the source says "-> Reduction[float]"."""
    signature = inspect.signature(reduce)
    result = str(signature.return_annotation).removeprefix("Reduction[").removesuffix("]")
    metric.__dict__["__signature__"] = signature.replace(return_annotation=result)
    metric.__annotations__ = {**reduce.__annotations__, "return": result}


def reduction_of(metric: Callable[..., Any]) -> Callable[..., Reduction[Any]] | None:
    """Return the reduction that a metric finishes; None for a metric that scores every row."""
    if isinstance(metric, functools.partial):
        reduce = reduction_of(metric.func)
        return reduce and functools.partial(reduce, *metric.args, **metric.keywords)
    return _REDUCTIONS.get(metric)
