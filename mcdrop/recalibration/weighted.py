"""Conformal intervals for new rows whose inputs are distributed differently: covariate shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from mcdrop.checks import require_choice, require_fitted, require_unit
from mcdrop.metrics._arrays import take_weights
from mcdrop.prediction import RegressionPrediction
from mcdrop.recalibration._interval_scores import (
    METHODS,
    IntervalMethod,
    moved_ends,
    score_base,
    scores_of,
)
from mcdrop.recalibration._matched import require_regression, require_row_shape, targets_of

__all__ = ["WeightedConformalPrediction", "WeightedConformalRegressor"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class WeightedConformalPrediction(RegressionPrediction):
    """A regression with conformal intervals under covariate weights; all else is the model's.

    Attributes:
        base_lower: Lower end that scores are measured from, shape of `mean`.
        base_upper: Upper end likewise.
        score_scale: Units of y per unit of score, shape of `mean`.
        row_weight: Weight of each new row, (N,), float64.
        scores: Calibration scores by output and ascending rank.
        score_weights: Weights of the same calibration rows.
        level: Level given to the regressor, at which `lower` and `upper` are taken.
        method: "absolute", "normalized" or "quantile".
    """

    _derived: ClassVar[tuple[str, ...]] = (*RegressionPrediction._derived, "lower", "upper")

    base_lower: Tensor
    base_upper: Tensor
    score_scale: Tensor
    row_weight: Tensor
    scores: Sequence[Sequence[float]]
    score_weights: Sequence[Sequence[float]]
    level: float
    method: IntervalMethod

    @property
    def lower(self) -> Tensor:
        """Lower end of the interval at the fitted level; units of y."""
        return self.interval(self.level)[0]

    @property
    def upper(self) -> Tensor:
        """Upper end of the interval at the fitted level; units of y."""
        return self.interval(self.level)[1]

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Interval that holds y with probability at least `level` where the weights are right.

        Args:
            level: Probability inside, in (0, 1).

        Returns:
            Lower and upper end, each of the shape of `mean`; units of y. Minus and plus infinity
            where the weight of a row exceeds (1 / level - 1) times the sum of the others.

        Raises:
            RangeError: If `level` lies outside (0, 1).
        """
        require_unit("WeightedConformalPrediction.interval", "level", level)
        columns = [
            _weighted_quantiles(scores, weights, self.row_weight, level)
            for scores, weights in zip(self.scores, self.score_weights, strict=True)
        ]
        reach = torch.stack(columns, dim=1).reshape(self.mean.shape)
        lower, upper, scale = (
            values.double().reshape(self.mean.shape)
            for values in (self.base_lower, self.base_upper, self.score_scale)
        )
        return moved_ends(lower, upper, reach * scale, self.mean.dtype)

    def __repr__(self) -> str:
        """Return one line: the fields, the method and what it was calibrated on."""
        weights = torch.tensor(self.score_weights[0], dtype=torch.float64, device="cpu")
        effective = (weights.sum().square() / weights.square().sum()).item()
        return (
            f"WeightedConformalPrediction({super().__repr__()}, {self.method}, "
            f"{len(weights)} calibration rows, worth {effective:.4g} unweighted)"
        )


class WeightedConformalRegressor:
    """Conformal intervals that stay valid when new inputs are distributed differently.

    Calibration rows come from P, new rows from P~ with the same law of y given x. With the weight
    w(x) = dP~/dP, up to one factor for all rows, the threshold of a new row is the smallest score t
    with

        sum of the w_i of calibration rows with a score <= t  >=  level (sum_i w_i + w(x_new)),

    infinite if there is none, that is if w(x_new) > (1 / level - 1) sum_i w_i. Then y lies inside
    with probability at least `level`, over calibration rows and a new row from P~. Scores are those
    of `ConformalRegressor`, which gives the same intervals when all weights are equal. With
    estimated weights, for example p / (1 - p) from a classifier of new against calibration inputs,
    the guarantee holds up to the error of the estimate.

    Args:
        method: "absolute", "normalized" or "quantile", as for `ConformalRegressor`.
        level: Probability inside, in (0, 1).

    Source:
        Tibshirani, Barber, Candes & Ramdas (2019), "Conformal prediction under covariate shift",
        corollary 1.

    Example:
        >>> zero = torch.zeros(4, 1)
        >>> p = RegressionPrediction(
        ...     mean=zero, epistemic_variance=zero, aleatoric_variance=zero, mcse=zero,
        ...     n_samples=0)
        >>> conformal = WeightedConformalRegressor(level=0.5)
        >>> _ = conformal.fit(p, [1.0, 2.0, 3.0, 4.0], weights=[1, 1, 1, 5])
        >>> conformal(p[:1], weights=[1]).interval(0.5)  # 0.5 (8 + 1) = 4.5 of 1, 2, 3, 8
        (tensor([[-4.]]), tensor([[4.]]))
    """

    def __init__(self, method: IntervalMethod = "absolute", level: float = 0.9) -> None:
        require_choice("WeightedConformalRegressor", "method", method, METHODS)
        require_unit("WeightedConformalRegressor", "level", level)
        self.method: IntervalMethod = method
        self.level = level
        self._scores: Sequence[Sequence[float]] | None = None
        self._weights: Sequence[Sequence[float]] = ()
        self._row = torch.Size(())

    def fit(
        self, prediction: RegressionPrediction, y: Any, *, weights: Any
    ) -> WeightedConformalRegressor:
        """Score held-out rows, and return the regressor.

        Args:
            prediction: For rows that neither the model nor a recalibration before was fitted on.
            y: Targets, shape of ``prediction.mean``; (N,) may stand for (N, 1).
            weights: w(x) of each row, (N,), at least 0, up to one factor.

        Raises:
            UnsupportedError: If `prediction` is not a regression.
            OutputError: If quantiles of the mixture are needed and no samples were kept.
            ShapeError: If `y` or `weights` does not match the prediction.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a weight is negative, all are 0, or `std` is 0 where it divides.
        """
        function = "WeightedConformalRegressor.fit"
        require_regression(function, prediction, plain=False)
        target = targets_of(function, prediction, y)
        weight = take_weights(function, weights, target.cpu())
        lower, upper, scale = score_base(function, prediction, self.method, self.level)
        scores = scores_of(target, lower, upper, scale, prediction.mean.dtype).cpu()
        ranked = scores.reshape(len(target), -1).sort(dim=0)
        self._scores = tuple(tuple(column.tolist()) for column in ranked.values.T)
        self._weights = tuple(tuple(weight[order].tolist()) for order in ranked.indices.T)
        self._row = prediction.mean.shape[1:]
        return self

    def __call__(
        self, prediction: RegressionPrediction, *, weights: Any
    ) -> WeightedConformalPrediction:
        """Return the prediction with conformal intervals under the weights.

        Args:
            prediction: Any rows, with the outputs of the fit.
            weights: w(x) of each of them, (N,), with the factor of the fit.

        Raises:
            UnsupportedError: If `fit` has not run, or the prediction is no regression.
            OutputError: If quantiles of the mixture are needed and no samples were kept.
            ShapeError: If outputs or weights do not match.
            NonFiniteError: If a weight is NaN or infinite.
            RangeError: If a weight is negative, all are 0, or `std` is 0 where it divides.
        """
        function = "WeightedConformalRegressor"
        scores = require_fitted(function, self._scores, "prediction, y, weights=")
        require_regression(function, prediction, plain=False)
        require_row_shape(function, prediction.mean, self._row)
        lower, upper, scale = score_base(function, prediction, self.method, self.level)
        plain = {f.name: getattr(prediction, f.name) for f in fields(RegressionPrediction)}
        return WeightedConformalPrediction(
            **plain,
            base_lower=lower,
            base_upper=upper,
            score_scale=scale,
            row_weight=take_weights(function, weights, prediction.mean.double()),
            scores=scores,
            score_weights=self._weights,
            level=self.level,
            method=self.method,
        )


def _weighted_quantiles(
    scores: Sequence[float], weights: Sequence[float], row_weight: Tensor, level: float
) -> Tensor:
    """Return the threshold of each new row, (N,); infinite where no score reaches the level."""
    reached = torch.tensor(weights, dtype=torch.float64, device="cpu").cumsum(dim=0)
    total = reached[-1] + row_weight.cpu()
    # Rounding in the sums must not tip a whole rank over.
    needed = level * total * (1 - 1e-12)
    padded = torch.tensor([*scores, torch.inf], dtype=torch.float64, device="cpu")
    return padded[torch.searchsorted(reached, needed)].to(row_weight.device)
