"""One factor on the predictive standard deviation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from mcdrop.checks import require_fitted
from mcdrop.errors import RangeError
from mcdrop.metrics._search import positive_minimum
from mcdrop.prediction import RegressionPrediction
from mcdrop.prediction.mixture import mixture_log_prob
from mcdrop.recalibration._matched import (
    require_density,
    require_regression,
    require_row_shape,
    targets_of,
)

__all__ = ["StdScaling"]

# How far the best factor of a mixture may lie from that of the normal, either way.
_REACH = 100.0


class StdScaling:
    """Multiply the predictive standard deviation by the factor that makes held-out y most likely.

    The whole distribution is stretched about its mean, for each output on its own: `std`,
    `epistemic_std` and `aleatoric_std` by the factor, `samples` to mean + factor (samples - mean),
    `sample_variances` by its square. `mean` and `mcse`, the Monte Carlo error of the mean, stay.

    For a prediction of family "normal" the best factor has a closed form, factor^2 = mean of
    ((y - mean) / std)^2, so that the mean squared z-score of the fitted rows is 1. For a
    "mixture" the likelihood of the stretched mixture is maximized by search, which needs samples
    and observation noise; fit on ``prediction.as_normal()`` for the closed form. Either factor
    may be applied to either family.

    Source:
        Laves et al. (2020), "Well-calibrated regression uncertainty"; Levi et al. (2022).

    Example:
        >>> import torch
        >>> one = torch.ones(2, 1)
        >>> p = RegressionPrediction(
        ...     mean=0 * one, epistemic_variance=0 * one, aleatoric_variance=one,
        ...     mcse=0 * one, n_samples=0, family="normal")
        >>> scaling = StdScaling().fit(p, [1.0, 7.0])
        >>> scaling.factor, scaling(p).std[:, 0]  # sqrt((1 + 49) / 2)
        (tensor([5.]), tensor([5., 5.]))
    """

    def __init__(self) -> None:
        self._factor: Tensor | None = None

    @property
    def factor(self) -> Tensor:
        """Factor for each output, the shape of one row of the prediction."""
        return require_fitted("StdScaling.factor", self._factor, "prediction, y")

    def fit(self, prediction: RegressionPrediction, y: Any) -> StdScaling:
        """Find the factor on held-out rows, and return the scaler.

        Args:
            prediction: For rows that the model was not trained on.
            y: Targets, shape of ``prediction.mean``; (N,) may stand for (N, 1).

        Raises:
            UnsupportedError: If `prediction` is not a plain RegressionPrediction.
            OutputError: If the mixture is to be fitted and no samples were kept.
            ShapeError: If `y` does not match the prediction.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a standard deviation is 0, the mixture has no noise, or an output hits
                every target exactly.
        """
        function = "StdScaling.fit"
        require_regression(function, prediction)
        require_density(function, prediction)
        residual = targets_of(function, prediction, y) - prediction.mean.double()
        std = prediction.variance.double().sqrt()
        factor = (residual / std).square().mean(dim=0).sqrt()
        if not bool((factor > 0).all()):
            raise RangeError.of(
                function,
                "y",
                "differ from the predictive mean",
                "no residual at all in some output",
                "Calibrate on rows that the model was not trained on",
            )
        if prediction.family == "mixture":
            factor = _mixture_factors(function, prediction, residual, factor)
        self._factor = factor.to(prediction.mean.dtype)
        return self

    def __call__(self, prediction: RegressionPrediction) -> RegressionPrediction:
        """Return the prediction with its spread multiplied by the fitted factor.

        Args:
            prediction: Any rows, with the outputs of the fit.

        Raises:
            UnsupportedError: If `fit` has not run, or the prediction is of another type.
            ShapeError: If the outputs differ from those of the fit.
        """
        factor = require_fitted("StdScaling", self._factor, "prediction, y")
        require_regression("StdScaling", prediction)
        require_row_shape("StdScaling", prediction.mean, factor.shape)
        factor = factor.to(prediction.mean)
        samples, variances = prediction.samples, prediction.sample_variances
        if samples is not None:
            samples = prediction.mean + factor * (samples - prediction.mean)
        if variances is not None:
            variances = variances * factor.square()
        return replace(
            prediction,
            epistemic_variance=prediction.epistemic_variance * factor.square(),
            aleatoric_variance=prediction.aleatoric_variance * factor.square(),
            std_mcse=None if prediction.std_mcse is None else prediction.std_mcse * factor,
            samples=samples,
            sample_variances=variances,
        )


def _mixture_factors(
    function: str, prediction: RegressionPrediction, residual: Tensor, start: Tensor
) -> Tensor:
    """Return the most likely factor of each output for the mixture over passes."""
    noise = prediction._component_variances().double().sqrt()
    samples = prediction._require_samples("quantile").double()
    offsets = samples - prediction.mean.double()

    def loss(factor: Tensor) -> Tensor:
        """Mean negative log-likelihood of each output for its factor."""
        densities = mixture_log_prob(offsets, noise, residual / factor)
        return factor.log() - densities.mean(dim=0)

    low, high = start / _REACH, start * _REACH
    factor, inside = positive_minimum(loss, low, high)
    if not bool(inside.all()):
        d = int((~inside).flatten().nonzero()[0])
        bounds = f"{low.flatten()[d].item():g} and {high.flatten()[d].item():g}"
        raise RangeError.of(
            function,
            "y",
            f"have a most likely factor within {bounds}",
            f"a likelihood that still grows at {factor.flatten()[d].item():g} for output {d}",
            "Fit on prediction.as_normal(), or check noise_std",
        )
    return factor
