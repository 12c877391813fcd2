"""Sums over bins of a forecast, from which every binned calibration measure is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import torch

from mcdrop.checks import require_choice, require_count, shown
from mcdrop.errors import ShapeError
from mcdrop.metrics._arrays import ArrayLike, Float64, float64, take_weights
from mcdrop.metrics._probs import take_probs
from mcdrop.metrics._reduction import Reduction

R = TypeVar("R")

Binning = Literal["uniform", "quantile"]
CalibrationKind = Literal["top_label", "classwise", "binary"]


@dataclass(frozen=True)
class Forecasts:
    """K forecasts per row of a number in [0, 1], and what happened.

    Attributes:
        forecast: Shape (K, N).
        event: Zero or one, shape (K, N).
        weights: Of the rows, shape (N,).
        dtype: In which the forecasts were given.
    """

    forecast: Float64
    event: Float64
    weights: Float64
    dtype: torch.dtype


def take_forecasts(
    function: str, probs: ArrayLike, y: ArrayLike, kind: str, weights: ArrayLike | None = None
) -> Forecasts:
    """Take probabilities and labels as yes-or-no forecasts: one per row, or one per class."""
    origin, p, labels = take_probs(function, probs, y, kind=kind)
    if kind == "binary" and p.ndim > 1:
        remedy = "Flatten to pool the outputs, or pass one column at a time"
        raise ShapeError.of(function, "probs", "have shape (N,)", shown(p.shape), remedy)
    if kind == "binary":
        forecast, event = p[None], labels[None].to(p.dtype)
    elif kind == "top_label":
        best, predicted = p.max(dim=1)
        forecast, event = best[None], (predicted == labels)[None].to(p.dtype)
    else:
        forecast = p.T
        event = torch.nn.functional.one_hot(labels, p.shape[1]).T.to(p.dtype)
    row_weights = float64(take_weights(function, weights, p))
    return Forecasts(float64(forecast), float64(event), row_weights, origin.dtype)


def binned(
    function: str,
    forecasts: Forecasts,
    end: Callable[[Float64, Float64], R],
    *,
    n_bins: int,
    binning: str,
) -> Reduction[R]:
    """Reduce to sums (K, 4, B) with edges (K, B + 1); `end` computes the metric from the two."""
    require_count(function, "n_bins", n_bins)
    require_choice(function, "binning", binning, ("uniform", "quantile"))
    if binning == "quantile":
        finish = partial(_end_quantile, end=end, n_bins=n_bins)
        return Reduction(to_columns(forecasts), finish, additive=False)
    edges = _unit_edges(n_bins, forecasts.dtype)
    pairs = zip(forecasts.forecast, forecasts.event, strict=True)
    sums = np.stack([uniform_sums(one, hit, forecasts.weights, edges) for one, hit in pairs])
    return Reduction(sums, partial(_end_uniform, end=end, edges=np.tile(edges, (len(sums), 1))))


def to_columns(forecasts: Forecasts) -> Float64:
    """Write forecasts as columns (2 K + 1, N): forecasts, events, weights."""
    return np.concatenate([forecasts.forecast, forecasts.event, forecasts.weights[None]])


def from_columns(columns: Float64) -> tuple[Float64, Float64, Float64]:
    """Read back forecasts (K, N), events (K, N) and weights (N,)."""
    k = len(columns) // 2
    return columns[:k], columns[k : 2 * k], columns[-1]


def _end_uniform(sums: Float64, end: Callable[[Float64, Float64], R], edges: Float64) -> R:
    return end(sums, edges)


def _end_quantile(columns: Float64, end: Callable[[Float64, Float64], R], n_bins: int) -> R:
    forecast, event, weights = from_columns(columns)
    pairs = zip(forecast, event, strict=True)
    parts = [quantile_sums(one, hit, weights, n_bins) for one, hit in pairs]
    return end(np.stack([sums for sums, _ in parts]), np.stack([edges for _, edges in parts]))


def _unit_edges(n_bins: int, dtype: torch.dtype) -> Float64:
    """Edges of equal bins on [0, 1], rounded as the forecasts are.

    So 0.2 typed in float32 and in float64 is the same side of the edge 3/15.
    """
    exact = torch.arange(n_bins + 1, dtype=torch.float64, device="cpu") / n_bins
    return float64(exact.to(dtype))


def uniform_sums(forecast: Float64, event: Float64, weights: Float64, edges: Float64) -> Float64:
    """Sums over the rows in bins (a, b], shape (4, B)."""
    n_bins = edges.size - 1
    index = np.clip(np.searchsorted(edges, forecast, side="left") - 1, 0, n_bins - 1)
    return np.stack(
        [np.bincount(index, column, n_bins) for column in _rows(forecast, event, weights)]
    )


def quantile_sums(
    forecast: Float64, event: Float64, weights: Float64, n_bins: int
) -> tuple[Float64, Float64]:
    """Sums over the sorted rows split like np.array_split, shape (4, B), and edges (B + 1,).

    Rows of equal forecast share what they have evenly, so that the order of the rows does not
    decide which of them falls left of a split.
    """
    order = np.argsort(forecast, kind="stable")
    ranked = forecast[order]
    starts = np.flatnonzero(np.diff(ranked, prepend=-np.inf))
    sizes = np.diff(starts, append=ranked.size)
    rows = _rows(ranked, event[order], weights[order])
    shared = np.repeat(np.add.reduceat(rows, starts, axis=1) / sizes, sizes, axis=1)
    sums = [part.sum(axis=1) for part in np.array_split(shared, n_bins, axis=1)]
    last = [part[-1] for part in np.array_split(ranked, n_bins) if part.size]
    last += last[-1:] * (n_bins - len(last))
    return np.stack(sums, axis=1), np.array([ranked[0], *last])


def membership(forecast: Float64, *, n_bins: int, binning: str, dtype: torch.dtype) -> Float64:
    """Share of each row in each bin, (N, B), as `uniform_sums` and `quantile_sums` count it."""
    if binning == "uniform":
        index = np.searchsorted(_unit_edges(n_bins, dtype), forecast, side="left") - 1
        return np.asarray(np.eye(n_bins)[np.clip(index, 0, n_bins - 1)])
    _, group, sizes = np.unique(forecast, return_inverse=True, return_counts=True)
    stops = np.cumsum(sizes)
    parts = np.array_split(np.arange(forecast.size), n_bins)
    ends = np.cumsum([part.size for part in parts])
    begins = np.append(0, ends[:-1])
    overlap = np.minimum(stops[:, None], ends) - np.maximum((stops - sizes)[:, None], begins)
    shares: Float64 = np.clip(overlap, 0, None) / sizes[:, None]
    return shares[group]


def _rows(forecast: Float64, event: Float64, weights: Float64) -> Float64:
    """Weight, forecast, event and squared difference of each row, shape (4, N)."""
    squared = np.square(forecast - event)
    return np.stack([weights, weights * forecast, weights * event, weights * squared])
