"""Quantile recalibration of a regression: the PIT is made uniform."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import torch

from mcdrop.checks import require_count, require_fitted
from mcdrop.errors import RangeError
from mcdrop.prediction import RegressionPrediction
from mcdrop.recalibration._level_map import (
    EDGE,
    Floats,
    LevelMap,
    fitted_level_map,
    model_levels,
    moments,
)
from mcdrop.recalibration._matched import (
    require_density,
    require_regression,
    require_row_shape,
    targets_of,
)
from mcdrop.recalibration.quantile_prediction import QuantileRecalibratedPrediction

__all__ = ["QuantileRecalibration"]

# The share of outlying targets that still leaves the usual levels, 0.05 to 0.95, reachable.
_MOST_BEYOND = 0.05


class QuantileRecalibration:
    """Map the levels of a regression so that held-out targets fall below each one as often as said.

    With u_n = F_n(y_n) the PIT of a calibration target and u_(k) the k-th smallest of n, the map
    R takes u_(k) to k / (n + 1), and is linear in between, from (0, 0) to (1, 1). The new
    distribution function is R(F(y)). A new target falls below its quantile at k / (n + 1) with
    exactly that probability if its PIT is exchangeable with theirs. R is fitted for each output
    on its own; it is increasing, so the isotonic fit of Kuleshov et al. leaves it as it is.

    Args:
        n_knots: How many of the u_(k), evenly spread in rank, R passes through; None takes
            about sqrt(n). All n of them follow Kuleshov et al. to the letter, but make a density
            of gaps between single points: `log_prob` then loses about 0.4 nats.

    Source:
        Kuleshov, Fenner & Ermon (2018), algorithm 1; k / (n + 1) in place of k / n.

    Example:
        >>> import torch
        >>> zero = torch.zeros(3, 1)
        >>> p = RegressionPrediction(
        ...     mean=zero, epistemic_variance=zero, aleatoric_variance=zero + 4,
        ...     mcse=zero, n_samples=0, family="normal")
        >>> q = QuantileRecalibration(n_knots=3).fit(p, [1.0, 2.0, 3.0])(p)
        >>> q.quantile(0.75)[0]  # 3 of 4 ranks lie below: the largest target
        tensor([3.0000])
    """

    def __init__(self, n_knots: int | None = None) -> None:
        if n_knots is not None:
            require_count("QuantileRecalibration", "n_knots", n_knots)
        self.n_knots = n_knots
        self._level_maps: list[LevelMap] | None = None
        self._row = torch.Size(())

    def fit(self, prediction: RegressionPrediction, y: Any) -> QuantileRecalibration:
        """Fit the map of levels on held-out rows, and return the recalibrator.

        Args:
            prediction: For rows that the model was not trained on, with a density: family
                "normal", or "mixture" with samples and observation noise.
            y: Targets, shape of ``prediction.mean``; (N,) may stand for (N, 1).

        Raises:
            UnsupportedError: If `prediction` is not a plain RegressionPrediction.
            OutputError: If the mixture has no samples.
            ShapeError: If `y` does not match the prediction.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If the distribution has no density, `n_knots` exceeds the rows, or many
                targets lie beyond every level that float64 can tell apart.
        """
        function = "QuantileRecalibration.fit"
        require_regression(function, prediction)
        target = targets_of(function, prediction, y)
        require_density(function, prediction)
        n_rows = len(target)
        n_knots = max(1, round(math.sqrt(n_rows))) if self.n_knots is None else self.n_knots
        if n_knots > n_rows:
            raise RangeError.of(
                function,
                "y",
                f"have at least {n_knots} rows for n_knots={n_knots}",
                n_rows,
                "Calibrate on more rows, or lower n_knots",
            )
        levels = model_levels(prediction, target)
        _require_levels(function, levels)
        self._level_maps = [fitted_level_map(column, n_knots) for column in levels.T]
        self._row = prediction.mean.shape[1:]
        return self

    def __call__(self, prediction: RegressionPrediction) -> QuantileRecalibratedPrediction:
        """Return the prediction with the recalibrated distribution.

        Args:
            prediction: Any rows, with the outputs of the fit.

        Raises:
            UnsupportedError: If `fit` has not run, or the prediction is of another type.
            OutputError: If the mixture has no samples.
            ShapeError: If the outputs differ from those of the fit.
            RangeError: If the distribution has no density.
        """
        function = "QuantileRecalibration"
        level_maps = require_fitted(function, self._level_maps, "prediction, y")
        require_regression(function, prediction)
        require_row_shape(function, prediction.mean, self._row)
        require_density(function, prediction)
        shift, stretch = moments(prediction, level_maps)
        mean = prediction.mean + shift * prediction.std
        samples, variances = prediction.samples, prediction.sample_variances
        plain = {f.name: getattr(prediction, f.name) for f in fields(RegressionPrediction)}
        changed = {
            "mean": mean,
            "epistemic_variance": prediction.epistemic_variance * stretch.square(),
            "aleatoric_variance": prediction.aleatoric_variance * stretch.square(),
            "std_mcse": None if prediction.std_mcse is None else prediction.std_mcse * stretch,
            "samples": None if samples is None else mean + stretch * (samples - prediction.mean),
            "sample_variances": None if variances is None else variances * stretch.square(),
        }
        return QuantileRecalibratedPrediction(
            **{**plain, **changed},
            model_mean=prediction.mean,
            stretch=stretch,
            knots=tuple(tuple(u.tolist()) for u, _ in level_maps),
            shares=tuple(tuple(share.tolist()) for _, share in level_maps),
        )


def _require_levels(function: str, levels: Floats) -> None:
    """Refuse targets mostly beyond 8 std: mapped levels could not reach them."""
    beyond = float(((levels <= EDGE) | (levels >= 1 - EDGE)).mean(axis=0).max())
    if beyond > _MOST_BEYOND:
        raise RangeError.of(
            function,
            "y",
            "lie where the predictive distribution has some mass",
            f"{beyond:.0%} of an output about 8 std or more away",
            "Scale the std first: StdScaling().fit(prediction, y)(prediction)",
        )
