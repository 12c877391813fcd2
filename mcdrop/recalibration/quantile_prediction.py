"""The result of quantile recalibration: a regression whose levels have been mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop.prediction import RegressionPrediction
from mcdrop.prediction.targets import aligned_targets
from mcdrop.recalibration._level_map import EDGE, LevelMap, log_slopes, model_levels

__all__ = ["QuantileRecalibratedPrediction"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class QuantileRecalibratedPrediction(RegressionPrediction):
    """A regression whose distribution function is R(F(y)): F the model's, R fitted.

    `mean` and `variance` are those of R(F). The variance is split between epistemic and aleatoric
    in the model's proportions; `samples` and `sample_variances` are shifted and scaled to the new
    moments; `mcse` is the model's, `std_mcse` scaled. `quantile`, `interval` and `log_prob` use
    R(F) itself.

    Attributes:
        model_mean: Mean of F, shape of `mean`.
        stretch: New standard deviation over that of F, shape of `mean`.
        knots: For each output the levels u at which R is given, increasing from 0 to 1.
        shares: For each output R(u) there, from 0 to 1; linear in between.
    """

    model_mean: Tensor
    stretch: Tensor
    knots: Sequence[Sequence[float]]
    shares: Sequence[Sequence[float]]

    def as_normal(self) -> RegressionPrediction:
        """Return the normal with the recalibrated mean and variance."""
        plain = {field.name: getattr(self, field.name) for field in fields(RegressionPrediction)}
        return RegressionPrediction(**{**plain, "family": "normal"})

    def log_prob(self, y: Any) -> Tensor:
        """Log density of the recalibrated distribution: ``log f(y) + log R'(F(y))``.

        Args:
            y: Targets with the shape of `mean`; (N,) may stand for (N, 1).

        Returns:
            Log density, shape of `mean`, in nats.

        Raises:
            ShapeError: If `y` does not have one target per predicted value.
            OutputError: If the mixture is asked for and no samples were kept.
        """
        target = aligned_targets("QuantileRecalibratedPrediction.log_prob", y, self.mean)
        # The fields hold F after y -> mean + stretch (y - model_mean); the same is done to y.
        moved = self.mean + (target - self.model_mean) * self.stretch
        slopes = torch.from_numpy(log_slopes(model_levels(self, moved), self._level_maps))
        log_density = super().log_prob(moved) + self.stretch.log()
        return log_density + slopes.reshape(self.mean.shape).to(log_density)

    def _quantile_at(self, method: str, q: float) -> Tensor:
        """Return the model's quantile at level R^-1(q)."""
        columns = []
        for d, (knots, shares) in enumerate(self._level_maps):
            level = float(np.clip(np.interp(q, shares, knots), EDGE, 1 - EDGE))
            columns.append(super()._quantile_at(method, level).reshape(len(self), -1)[:, d])
        moved = torch.stack(columns, dim=1).reshape(self.mean.shape)
        return self.model_mean + (moved - self.mean) / self.stretch

    @property
    def _level_maps(self) -> list[LevelMap]:
        """Return R of each output."""
        pairs = zip(self.knots, self.shares, strict=True)
        return [(np.asarray(knots), np.asarray(shares)) for knots, shares in pairs]

    def __repr__(self) -> str:
        """Return one line: the fields, and how finely levels were mapped."""
        knots = max(len(levels) for levels in self.knots) - 2
        return f"QuantileRecalibratedPrediction({super().__repr__()}, {knots} knots)"
