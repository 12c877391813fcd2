"""The increasing map R of levels behind quantile recalibration, one for each output.

A level u in (0, 1) is held as its normal score z = Phi^-1(u), so that levels next to 1 keep their
precision: 1 - u = Phi(-z). Scores are handled as (N, D), with the outputs of a row flattened.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop.prediction import RegressionPrediction
from mcdrop.prediction.mixture import normal_distribution

Floats = npt.NDArray[np.float64]

# Phi(-37) = 6e-300; Phi(-38.5) rounds to 0 in float64.
FARTHEST = 37.0
# Width of a cell and least reach of the grid of the moments, in std of the model, and how many
# cells are in memory at a time.
_STEP, _REACH, _CELLS = 0.05, 8.0, 2**20


class LevelMap:
    """R through given knots, linear in the level between them, from R(0) = 0 to R(1) = 1.

    Args:
        scores: Normal scores of the K knots, strictly increasing.
        shares: R there, strictly increasing in (0, 1).
    """

    def __init__(self, scores: Sequence[float] | Floats, shares: Sequence[float] | Floats) -> None:
        from scipy.special import ndtr

        self.scores, self.shares = np.asarray(scores, dtype=float), np.asarray(shares, dtype=float)
        ends = np.concatenate([[-np.inf], self.scores, [np.inf]])
        # u and 1 - u at the ends of the K + 1 pieces; a difference of the smaller ones is exact.
        self._below, self._above = ndtr(ends), ndtr(-ends)
        self._mirrored = ends[:-1] + ends[1:] > 0
        self._width = np.where(self._mirrored, -np.diff(self._above), np.diff(self._below))
        self._ends = np.concatenate([[0], self.shares, [1]])

    def share(self, z: Floats) -> Floats:
        """Return R at normal scores."""
        from scipy.special import ndtr

        piece = np.searchsorted(self.scores, z, side="right")
        from_below, from_above = ndtr(z) - self._below[piece], self._above[piece] - ndtr(-z)
        part = np.where(self._mirrored[piece], from_above, from_below) / self._width[piece]
        found: Floats = self._ends[piece] + part * np.diff(self._ends)[piece]
        return found

    def score(self, share: float) -> float:
        """Return the normal score at which R is `share`."""
        from scipy.special import ndtri

        piece = int(np.searchsorted(self.shares, share, side="right"))
        left, right = self._ends[piece], self._ends[piece + 1]
        slope = self._width[piece] / (right - left)
        below = self._below[piece] + (share - left) * slope
        above = self._above[piece + 1] + (right - share) * slope
        score = ndtri(below) if below < above else -ndtri(above)
        return float(np.clip(score, -FARTHEST, FARTHEST))

    def log_slope(self, z: Floats) -> Floats:
        """Return log R'(u) at normal scores; constant between knots."""
        slopes: Floats = np.log(np.diff(self._ends) / self._width)
        return slopes[np.searchsorted(self.scores, z, side="right")]

    def outward(self, share: float) -> float:
        """Return the nearest knot's share further from 1/2, or `share` itself in the tails."""
        slack = 1e-9  # so that (1 - 0.9) / 2 counts as the 0.05 it stands for
        if share < 0.5:
            index = int(np.searchsorted(self.shares, share + slack, side="right")) - 1
        else:
            index = int(np.searchsorted(self.shares, share - slack, side="left"))
        return float(self.shares[index]) if 0 <= index < len(self.shares) else share

    def thinned(self, n_knots: int) -> LevelMap:
        """Return the map through `n_knots` of the knots, evenly spread."""
        chosen = even_ranks(len(self.scores), n_knots) - 1
        return LevelMap(self.scores[chosen], self.shares[chosen])


def even_ranks(n: int, n_knots: int) -> npt.NDArray[np.int64]:
    """Return `n_knots` of the ranks 1 ... n, evenly spread."""
    spread = np.arange(1, n_knots + 1) * (n + 1) / (n_knots + 1)
    ranks: npt.NDArray[np.int64] = np.rint(spread).astype(np.int64)
    return ranks


def fitted_level_map(scores: Floats, n_knots: int) -> LevelMap:
    """Pass through the k-th smallest of n levels at k / (n + 1), for `n_knots` of the k."""
    n = len(scores)
    ranks = even_ranks(n, n_knots)
    # Equal levels share their mean rank, which treats both directions of y alike.
    knots, place = np.unique(_distinct(np.sort(scores))[ranks - 1], return_inverse=True)
    return LevelMap(knots, np.bincount(place, ranks / (n + 1)) / np.bincount(place))


def _distinct(scores: Floats) -> Floats:
    """Return the scores such that different ones have different levels in float64."""
    from scipy.special import ndtr, ndtri

    sign = np.where(scores > 0, -1.0, 1.0)
    rounded: Floats = sign * ndtri(ndtr(sign * np.clip(scores, -FARTHEST, FARTHEST)))
    return rounded


def model_scores(prediction: RegressionPrediction, y: Tensor) -> Floats:
    """Return Phi^-1(F(y)), (..., N, D), for y (..., N, *row): F is the law the fields state."""
    target = y.double()
    if prediction.family == "normal":
        scores = (target - prediction.mean.double()) / prediction.variance.double().sqrt()
    else:
        means = prediction._require_samples("quantile").double()
        stds = prediction._component_variances().double().sqrt().expand_as(means)
        # Above the mean 1 - F is summed instead of F, and its score mirrored: the tails stay exact.
        side = torch.where(target > prediction.mean.double(), -1.0, 1.0)
        tail = torch.zeros_like(target)
        for mean, std in zip(means, stds, strict=True):
            tail += normal_distribution(side * (target - mean) / std)
        scores = side * torch.special.ndtri(tail / len(means))
    scores = scores.clamp(-FARTHEST, FARTHEST)
    leading = target.ndim - prediction.mean.ndim
    flat: Floats = scores.reshape(*target.shape[: leading + 1], -1).cpu().numpy()
    return flat


def moments(prediction: RegressionPrediction, maps: Sequence[LevelMap]) -> tuple[Tensor, Tensor]:
    """Return how far R moves the mean, in std of the model, and how much it stretches the std.

    Moments of R(F) and of F are sums over the same cells of z = (y - mean) / std, and only their
    difference and ratio are used: the error of the sums cancels, and R(u) = u changes nothing.
    """
    from scipy.special import ndtr

    mean, std = prediction.mean.double(), prediction.variance.double().sqrt()
    n_rows, n_outputs = len(mean), len(maps)
    # Two std beyond the outermost knot R follows the tail of F, which has ended by then.
    outermost = max(float(np.abs(one.scores).max()) for one in maps)
    reach = _STEP * round(min(max(outermost + 2, _REACH), FARTHEST) / _STEP)
    edges = torch.arange(-reach, reach + _STEP / 2, _STEP, dtype=torch.float64, device="cpu")
    powers = np.zeros((2, 2, n_rows, n_outputs))  # of F and R(F); mean and square
    below = np.zeros((2, 1, n_rows, n_outputs))
    for block in edges.to(mean.device).split(max(1, _CELLS // (n_rows * n_outputs))):
        column = block.reshape(-1, *[1] * mean.ndim)
        scores = model_scores(prediction, mean + column * std)
        mapped = np.stack([one.share(scores[..., d]) for d, one in enumerate(maps)], axis=-1)
        shares = np.stack([ndtr(scores), mapped])
        mass = np.diff(np.concatenate([below, shares], axis=1), axis=1)
        centers = block.cpu().numpy() - _STEP / 2
        powers += np.einsum("kend,pe->kpnd", mass, [centers, centers**2])
        below = shares[:, -1:]
    tail = 1 - below[:, 0]  # mass beyond the grid, put at its end
    end = float(edges[-1])
    first, second = powers[:, 0] + tail * end, powers[:, 1] + tail * end**2
    spread = np.sqrt(second - first**2)
    shift, stretch = first[1] - first[0], spread[1] / spread[0]
    return (
        torch.from_numpy(shift).reshape(mean.shape).to(prediction.mean),
        torch.from_numpy(stretch).reshape(mean.shape).to(prediction.mean),
    )
