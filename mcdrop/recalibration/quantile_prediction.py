"""The result of quantile recalibration: a regression whose levels have been mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop.prediction import RegressionPrediction
from mcdrop.prediction.mixture import normal_distribution, quantile_by_blocks
from mcdrop.prediction.targets import aligned_targets
from mcdrop.recalibration._level_map import LevelMap, model_scores

__all__ = ["QuantileRecalibratedPrediction"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class QuantileRecalibratedPrediction(RegressionPrediction):
    """A regression whose distribution function is R(F(y)): F the model's, R fitted.

    `mean` and `variance` are those of R(F). The variance is split between epistemic and aleatoric
    in the model's proportions; `samples` and `sample_variances` are shifted and scaled to the new
    moments; `mcse` is the model's, `std_mcse` scaled. `quantile`, `interval` and `log_prob` use
    R(F) itself:

    - ``quantile(q)`` is the model's quantile at level R^-1(q).
    - ``interval(level)`` moves its two ends outward to the next knot. With all n calibration rows
      as knots, a new exchangeable y then lies inside with probability at least `level` and at most
      level + 2 / (n + 1), whatever the model, for every level up to (n - 1) / (n + 1).
    - Beyond the outermost knots R follows the model: the mass 1 / (n + 1) of each tail is spread
      like the model's own tail there. Nothing is guaranteed about it.
    - ``log_prob(y)`` is the log density of R(F), averaged between every (n / n_cells)-th knot.

    Attributes:
        model_mean: Mean of F, shape of `mean`.
        stretch: New standard deviation over that of F, shape of `mean`.
        knot_scores: For each output the knots u of R as normal scores Phi^-1(u), increasing.
        knot_shares: For each output R(u) there; linear in u in between.
        n_cells: How many of the knots of each output the density passes through; None for all.
    """

    model_mean: Tensor
    stretch: Tensor
    knot_scores: Sequence[Sequence[float]]
    knot_shares: Sequence[Sequence[float]]
    n_cells: int | None = None

    def as_normal(self) -> RegressionPrediction:
        """Return the normal with the recalibrated mean and variance."""
        plain = {field.name: getattr(self, field.name) for field in fields(RegressionPrediction)}
        return RegressionPrediction(**{**plain, "family": "normal"})

    def log_prob(self, y: Any) -> Tensor:
        """Log density of the recalibrated distribution: ``log f(y) + log R'(F(y))``.

        R' is averaged over cells of about n / `n_cells` knots. Between single neighbors it would
        be the inverse of a random gap, which costs about 0.4 nats on new rows.

        Args:
            y: Targets with the shape of `mean`; (N,) may stand for (N, 1).

        Returns:
            Log density, shape of `mean`, in nats.

        Raises:
            ShapeError: If `y` does not have one target per predicted value.
            OutputError: If the mixture is asked for and no samples were kept.
        """
        target = aligned_targets(
            "QuantileRecalibratedPrediction.log_prob", y, self.mean, index=self.index
        )
        # The fields hold F after y -> mean + stretch (y - model_mean); the same is done to y.
        moved = self.mean + (target - self.model_mean) * self.stretch
        scores = model_scores(self, moved)
        maps = self._level_maps
        if self.n_cells is not None:
            maps = [one.thinned(min(self.n_cells, len(one.scores))) for one in maps]
        each = [one.log_slope(scores[:, d]) for d, one in enumerate(maps)]
        slopes = torch.from_numpy(np.stack(each, axis=1))
        log_density = super().log_prob(moved) + self.stretch.log()
        return log_density + slopes.reshape(self.mean.shape).to(log_density)

    def _quantile_at(self, method: str, q: float) -> Tensor:
        """Return the model's quantile at level R^-1(q), for "interval" at the knot beyond it."""
        columns = []
        for d, one in enumerate(self._level_maps):
            score = one.score(one.outward(q) if method == "interval" else q)
            columns.append(self._at_score(method, score).reshape(len(self), -1)[:, d])
        moved = torch.stack(columns, dim=1).reshape(self.mean.shape)
        return self.model_mean + (moved - self.mean) / self.stretch

    def _at_score(self, method: str, z: float) -> Tensor:
        """Return the quantile that the fields state at level Phi(z)."""
        if self.family == "normal":
            return self.mean + z * self.std
        samples = self._require_samples(method)
        variances = self._component_variances().expand_as(samples)
        # Levels above 1/2 by the mirrored mixture: Phi(-z) keeps the digits that Phi(z) has lost.
        mirror = -1 if z > 0 else 1
        level = normal_distribution(torch.tensor(-abs(z), dtype=torch.float64, device="cpu")).item()
        found = mirror * quantile_by_blocks(mirror * samples, variances, level)
        return found.to(self.mean.dtype)

    @property
    def _level_maps(self) -> list[LevelMap]:
        """Return R of each output."""
        pairs = zip(self.knot_scores, self.knot_shares, strict=True)
        return [LevelMap(scores, shares) for scores, shares in pairs]

    def __repr__(self) -> str:
        """Return one line: the fields, and how finely levels were mapped."""
        knots = max(map(len, self.knot_scores))
        return f"QuantileRecalibratedPrediction({super().__repr__()}, {knots} knots)"
