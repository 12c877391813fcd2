"""The increasing map R of levels behind quantile recalibration, one for each output.

A curve is a pair of float64 arrays: levels u from 0 to 1, strictly increasing, and R(u).
Levels and slopes are handled as (N, D), with the outputs of a row flattened.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop.metrics import pit_mixture, pit_normal
from mcdrop.prediction import RegressionPrediction

Floats = npt.NDArray[np.float64]
Curve = tuple[Floats, Floats]

# The smallest PIT whose mirror image, 1 minus it, float64 still tells from 1: 8.1 std away.
EDGE = 2.0**-52
# Of the moments' integral, in std of the model.
_STEP, _REACH = 0.05, 8.0


def model_pit(prediction: RegressionPrediction, y: Tensor) -> Floats:
    """Return F(y) for every target, (N, D), with F the distribution that the fields state."""
    target = y.double()
    if prediction.family == "normal":
        mean, std = prediction.mean.double(), prediction.variance.double().sqrt()
        levels = pit_normal(mean, std, target)
    else:
        means = prediction._require_samples("quantile").double()
        stds = prediction._component_variances().double().sqrt().expand_as(means)
        levels = pit_mixture(means, stds, target)
    return np.asarray(torch.as_tensor(levels).cpu().reshape(len(target), -1))


def fitted_curve(levels: Floats, n_knots: int) -> Curve:
    """Pass through the k-th smallest of n levels at k / (n + 1), for evenly spread k."""
    n = len(levels)
    ranks = np.rint(np.arange(1, n_knots + 1) * (n + 1) / (n_knots + 1)).astype(int)
    inner = np.sort(np.clip(levels, EDGE, 1 - EDGE))[ranks - 1]
    # Equal levels share their mean rank, which treats both directions of y alike.
    knots, place = np.unique(inner, return_inverse=True)
    shares = np.bincount(place, ranks / (n + 1)) / np.bincount(place)
    return np.concatenate([[0], knots, [1]]), np.concatenate([[0], shares, [1]])


def mapped(levels: Floats, curves: Sequence[Curve]) -> Floats:
    """Return R(u) for levels (N, D)."""
    columns = zip(levels.T, curves, strict=True)
    return np.stack([np.interp(column, *curve) for column, curve in columns], axis=1)


def log_slopes(levels: Floats, curves: Sequence[Curve]) -> Floats:
    """Return log R'(u) for levels (N, D)."""
    logs = []
    for column, (knots, shares) in zip(levels.T, curves, strict=True):
        piece = np.clip(np.searchsorted(knots, column, side="right") - 1, 0, len(knots) - 2)
        logs.append(np.log(np.diff(shares) / np.diff(knots))[piece])
    return np.stack(logs, axis=1)


def moments(prediction: RegressionPrediction, curves: Sequence[Curve]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of R(F) in the model's own standard units.

    Sums over cells of z = (y - mean) / std: mass times midpoint, and times its square less
    Sheppard's step^2 / 12. Mass beyond the last cell, 8 std out, is put at the edge.
    """
    mean, std = prediction.mean.double(), prediction.variance.double().sqrt()
    shape = (len(mean), len(curves))
    first, second, below = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    edges = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    centres = np.concatenate([edges[:1], (edges[:-1] + edges[1:]) / 2, edges[-1:]])
    for edge, centre in zip([*edges.tolist(), None], centres, strict=True):
        share = np.ones(shape)
        if edge is not None:
            share = mapped(model_pit(prediction, mean + edge * std), curves)
        first += (share - below) * centre
        second += (share - below) * centre**2
        below = share
    spread = np.sqrt(second - first**2 - _STEP**2 / 12)
    return (
        torch.from_numpy(first).reshape(mean.shape).to(prediction.mean),
        torch.from_numpy(spread).reshape(mean.shape).to(prediction.mean),
    )
