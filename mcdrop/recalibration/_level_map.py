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

from mcdrop.prediction import RegressionPrediction

Floats = npt.NDArray[np.float64]
LevelMap = tuple[Floats, Floats]

# Levels are kept in [EDGE, 1 - EDGE]: 1 - 2^-52 is the last level float64 tells from 1, and lies
# 8.1 std above the mean of a normal.
EDGE = 2.0**-52
# Width and reach of the grid of the moments, in std of the model, and cells in memory at a time.
_STEP, _REACH, _CELLS = 0.05, 8.0, 2**20


def model_levels(prediction: RegressionPrediction, y: Tensor) -> Floats:
    """Return F(y), (..., N, D), for y (..., N, *row): F is the distribution the fields state."""
    target = y.double()
    if prediction.family == "normal":
        mean, std = prediction.mean.double(), prediction.variance.double().sqrt()
        levels = torch.special.ndtr((target - mean) / std)
    else:
        means = prediction._require_samples("quantile").double()
        stds = prediction._component_variances().double().sqrt().expand_as(means)
        levels = torch.zeros_like(target)
        for mean, std in zip(means, stds, strict=True):
            levels += torch.special.ndtr((target - mean) / std)
        levels /= len(means)
    leading = target.ndim - prediction.mean.ndim
    flat: Floats = levels.reshape(*target.shape[: leading + 1], -1).cpu().numpy()
    return flat


def fitted_level_map(levels: Floats, n_knots: int) -> LevelMap:
    """Pass through the k-th smallest of n levels at k / (n + 1), for evenly spread k."""
    n = len(levels)
    ranks = np.rint(np.arange(1, n_knots + 1) * (n + 1) / (n_knots + 1)).astype(int)
    inner = np.sort(np.clip(levels, EDGE, 1 - EDGE))[ranks - 1]
    # Equal levels share their mean rank, which treats both directions of y alike.
    knots, place = np.unique(inner, return_inverse=True)
    shares = np.bincount(place, ranks / (n + 1)) / np.bincount(place)
    return np.concatenate([[0], knots, [1]]), np.concatenate([[0], shares, [1]])


def log_slopes(levels: Floats, level_maps: Sequence[LevelMap]) -> Floats:
    """Return log R'(u) for levels (N, D)."""
    logs = []
    for column, (knots, shares) in zip(levels.T, level_maps, strict=True):
        piece = np.clip(np.searchsorted(knots, column, side="right") - 1, 0, len(knots) - 2)
        logs.append(np.log(np.diff(shares) / np.diff(knots))[piece])
    return np.stack(logs, axis=1)


def moments(
    prediction: RegressionPrediction, level_maps: Sequence[LevelMap]
) -> tuple[Tensor, Tensor]:
    """Return how far R moves the mean, in std of the model, and how much it stretches the std.

    Moments of R(F) and of F are sums over the same cells of z = (y - mean) / std, and only their
    difference and ratio are used: the error of the sums cancels, and R(u) = u changes nothing.
    """
    mean, std = prediction.mean.double(), prediction.variance.double().sqrt()
    n_rows, n_outputs = len(mean), len(level_maps)
    edges = torch.arange(-_REACH, _REACH + _STEP / 2, _STEP, dtype=torch.float64)
    powers = np.zeros((2, 2, n_rows, n_outputs))  # of F and R(F); mean and square
    below = np.zeros((2, 1, n_rows, n_outputs))
    for block in edges.to(mean.device).split(max(1, _CELLS // (n_rows * n_outputs))):
        column = block.reshape(-1, *[1] * mean.ndim)
        levels = model_levels(prediction, mean + column * std)
        mapped = [np.interp(levels[..., d], *curve) for d, curve in enumerate(level_maps)]
        shares = np.stack([levels, np.stack(mapped, axis=-1)])
        mass = np.diff(np.concatenate([below, shares], axis=1), axis=1)
        centers = block.cpu().numpy() - _STEP / 2
        powers += np.einsum("kend,pe->kpnd", mass, [centers, centers**2])
        below = shares[:, -1:]
    tail = 1 - below[:, 0]  # mass beyond the last cell, 8 std out, is put just there
    end = float(edges[-1])
    first, second = powers[:, 0] + tail * end, powers[:, 1] + tail * end**2
    spread = np.sqrt(second - first**2)
    shift, stretch = first[1] - first[0], spread[1] / spread[0]
    return (
        torch.from_numpy(shift).reshape(mean.shape).to(prediction.mean),
        torch.from_numpy(stretch).reshape(mean.shape).to(prediction.mean),
    )
