"""Resampled values of a statistic over rows, and the intervals they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from mcdrop.checks import require_choice, require_count, require_unit, shown
from mcdrop.errors import NonFiniteError, ShapeError, UnsupportedError
from mcdrop.metrics._arrays import Array, ArrayLike, Float64, float64
from mcdrop.metrics._reduction import RowMean, reduction_of

BootstrapMethod = Literal["auto", "percentile", "basic", "bca"]
RowNumbers: TypeAlias = npt.NDArray[np.int64]

_METHODS = ("auto", "percentile", "basic", "bca")
# Row numbers drawn at once: 32 MiB of them.
_DRAWN_AT_ONCE = 2**22
# Groups of rows left out in turn to estimate the acceleration of BCa.
_GROUPS = 200
# Median bias, in standard errors, above which "auto" takes the basic interval: beyond it the
# quantiles of the resamples lie further from the truth than the value does.
_LARGE_BIAS = 1.0


@dataclass(frozen=True)
class Statistic:
    """A number over N rows, and how to find it on resampled rows (R, N)."""

    value: float
    n: int
    on: Callable[[RowNumbers], Float64]
    row_mean: RowMean | None = None

    def minus(self, other: Statistic) -> Statistic:
        """Subtract another number over the same rows."""
        return Statistic(
            self.value - other.value, self.n, lambda rows: self.on(rows) - other.on(rows)
        )


def statistic(
    function: str,
    metric: Callable[..., Any],
    arrays: Sequence[ArrayLike],
    row_axes: Sequence[int] | None,
) -> Statistic:
    data = [a if isinstance(a, torch.Tensor) else np.asarray(a) for a in arrays]
    axes = [0] * len(data) if row_axes is None else list(row_axes)
    if not data or len(axes) != len(data):
        remedy = "Give each array its axis of rows"
        raise ShapeError.of(function, "row_axes", f"hold {len(data)} axes", len(axes), remedy)
    result = _plain(function, metric(*data))
    n = data[-1].shape[axes[-1]] if data[-1].ndim else 0
    if n < 2:
        remedy = "A bootstrap needs at least 2 rows"
        raise ShapeError.of(function, "arrays", "hold several rows", f"{n} of them", remedy)
    if result.ndim == 0:
        _require_equal_rows(function, data, axes)
        reduce = reduction_of(metric)
        row_mean = reduce(*data).row_mean if reduce is not None else None
        return Statistic(float(result), n, partial(_recomputed, metric, data, axes), row_mean)
    if len(result) != n:
        remedy = "Return one score per row, or one number"
        raise ShapeError.of(
            function, "metric", f"return {n} scores", f"shape {shown(result.shape)}", remedy
        )
    scores = result.reshape(n, -1).mean(axis=1)
    kind: Literal["mean", "share"] = "share" if np.isin(result, (0, 1)).all() else "mean"
    mean = RowMean(scores, kind) if np.isfinite(scores).all() else None
    return Statistic(float(scores.mean()), n, lambda rows: scores[rows].mean(axis=1), mean)


def _plain(function: str, result: object) -> Float64:
    """Take what a metric returned as float64; whole, NaN and infinite numbers pass."""
    if isinstance(result, torch.Tensor):
        return float64(result)
    if isinstance(result, float | int | np.ndarray | np.generic):
        return np.asarray(result, dtype=np.float64)
    remedy = "Return one score per row, or one number"
    kind = type(result).__name__
    raise UnsupportedError.of(function, "metric", "return scores or a number", kind, remedy)


def _require_equal_rows(function: str, data: Sequence[Array], axes: Sequence[int]) -> None:
    lengths = [a.shape[axis] if a.ndim > axis else 0 for a, axis in zip(data, axes, strict=True)]
    if len(set(lengths)) > 1:
        remedy = "Name the axis of the rows, such as row_axes=(1, 0) for samples (S, N) and y"
        raise ShapeError.of(function, "arrays", "have equally many rows", lengths, remedy)


def _recomputed(
    metric: Callable[..., Any], data: Sequence[Array], axes: Sequence[int], rows: RowNumbers
) -> Float64:
    pairs = list(zip(data, axes, strict=True))
    return np.array([float(metric(*(_rows(a, i, axis) for a, axis in pairs))) for i in rows])


def _rows(array: Array, rows: RowNumbers, axis: int) -> Array:
    if isinstance(array, torch.Tensor):
        return array.index_select(axis, torch.from_numpy(rows).to(array.device))
    return array.take(rows, axis=axis)


@dataclass(frozen=True)
class Resampler:
    """The options of one call, checked, and the interval they give."""

    function: str
    level: float
    n_resamples: int
    seed: int
    method: str

    def __post_init__(self) -> None:
        require_unit(self.function, "level", self.level)
        require_count(self.function, "n_resamples", self.n_resamples, least=2)
        require_count(self.function, "seed", self.seed, 0)
        require_choice(self.function, "method", self.method, _METHODS)

    def interval(self, statistic: Statistic) -> tuple[float, float, float, str]:
        """Resample a statistic: low, high, standard error and the method used."""
        self._refuse_nan(np.array(statistic.value), "all rows")
        values = self._replicates(statistic)
        self._refuse_nan(values, "a resample")
        bias = _median_bias(values, statistic.value)
        method = self.method
        if not math.isfinite(statistic.value) or not np.isfinite(values).all():
            return *self._infinite(values), math.inf, "percentile"
        if method == "auto":
            method = "bca" if abs(bias) <= _LARGE_BIAS else "basic"
        shares = np.array([(1 - self.level) / 2, (1 + self.level) / 2])
        if method == "bca":
            shares = self._bca_shares(statistic, bias, shares)
        low, high = np.quantile(values, shares).tolist()
        if method == "basic":
            low, high = 2 * statistic.value - high, 2 * statistic.value - low
        return low, high, float(values.std(ddof=1)), method

    def _infinite(self, values: Float64) -> tuple[float, float]:
        if self.method not in ("auto", "percentile"):
            remedy = 'Use method="percentile"'
            raise NonFiniteError.of(self.function, "metric", "be finite", "infinity", remedy)
        # Between a finite and an infinite value there is nothing to interpolate.
        shares = [(1 - self.level) / 2, (1 + self.level) / 2]
        low, high = np.quantile(values, shares, method="higher").tolist()
        return low, high

    def _refuse_nan(self, values: Float64, where: str) -> None:
        if np.isnan(values).any():
            remedy = "Check the metric for rows it cannot score"
            raise NonFiniteError.of(
                self.function, "metric", "give a number", f"NaN for {where}", remedy
            )

    def _replicates(self, statistic: Statistic) -> Float64:
        draw = np.random.default_rng(self.seed)
        at_once = max(1, _DRAWN_AT_ONCE // statistic.n)
        sizes = [min(at_once, self.n_resamples - i) for i in range(0, self.n_resamples, at_once)]
        n = statistic.n
        return np.concatenate([statistic.on(draw.integers(n, size=(size, n))) for size in sizes])

    def _bca_shares(self, statistic: Statistic, bias: float, shares: Float64) -> Float64:
        from scipy.special import ndtr, ndtri

        z = bias + ndtri(shares)
        adjusted: Float64 = ndtr(bias + z / (1 - self._acceleration(statistic) * z))
        return adjusted

    def _acceleration(self, statistic: Statistic) -> float:
        """Skewness of the rows' influence: leave out each row, or each of 200 groups of rows."""
        rows = np.random.default_rng(self.seed).permutation(statistic.n)
        bounds = np.linspace(0, statistic.n, min(_GROUPS, statistic.n) + 1).astype(int).tolist()
        groups = [slice(start, stop) for start, stop in pairwise(bounds)]
        left_out = np.array([statistic.on(np.delete(rows, group)[None])[0] for group in groups])
        influence = left_out.mean() - left_out
        scale = np.square(influence).sum() ** 1.5
        return float(np.power(influence, 3).sum() / (6 * scale)) if scale > 0 else 0.0


def _median_bias(values: Float64, value: float) -> float:
    """How far the value is from the median of its resamples, in standard errors."""
    from scipy.special import ndtri

    below = (values < value).mean() + (values == value).mean() / 2
    # Kept off 0 and 1, where the normal quantile is infinite.
    return float(ndtri(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values))))
