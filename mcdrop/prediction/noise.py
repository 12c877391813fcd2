"""How large the observation noise is: from held-out data, or from the weight decay of training."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mcdrop.errors import RangeError
from mcdrop.prediction.mixture import mixture_log_prob
from mcdrop.prediction.regression import RegressionPrediction
from mcdrop.prediction.search import positive_minimum
from mcdrop.prediction.targets import aligned_targets

__all__ = ["fit_noise_std", "noise_std_from_weight_decay"]


def fit_noise_std(prediction: RegressionPrediction, y: Any) -> Tensor:
    """Noise level that makes held-out targets most likely under the mixture over passes.

    Maximizes ``sum_n log (1/S) sum_s N(y_n; samples_sn, noise_std^2)`` over noise_std > 0, for each
    output on its own. Use rows that the model was not trained on.

    Args:
        prediction: Made with ``keep_samples=True`` for the held-out rows; its own noise is ignored.
        y: Targets of the same rows, shape of ``prediction.mean``; (N,) may stand for (N, 1).

    Returns:
        Standard deviation for each output, the shape of one row of the prediction, units of y;
        pass it on as ``noise_std=``.

    Raises:
        OutputError: If the samples were not kept.
        ShapeError: If `y` does not match the prediction.
        RangeError: If the passes hit every target exactly, so that no noise fits.

    Source:
        Gal & Ghahramani (2016) choose the precision tau by the same held-out likelihood.

    Example:
        >>> p = RegressionPrediction(
        ...     mean=torch.zeros(2, 1), epistemic_variance=torch.zeros(2, 1),
        ...     aleatoric_variance=torch.zeros(2, 1), mcse=torch.zeros(2, 1), n_samples=2,
        ...     samples=torch.zeros(2, 2, 1))
        >>> fit_noise_std(p, [3.0, -4.0])  # the root mean square, 12.5 ** 0.5
        tensor([3.5355])
    """
    samples = prediction._require_samples("fit_noise_std").double()
    target = aligned_targets("fit_noise_std", y, prediction.mean)
    squares = (samples - target).square()
    # At the optimum the noise variance is a weighted mean of squared residuals, hence the bracket.
    low = squares.amin(dim=0).mean(dim=0).sqrt()
    high = squares.amax(dim=0).mean(dim=0).sqrt()
    if not bool((high > 0).all()):
        raise RangeError.of(
            "fit_noise_std", "y", "differ from the passes", "no residual at all", "Use other rows"
        )
    low = torch.maximum(low * 0.999, high * 1e-6)

    def loss(std: Tensor) -> Tensor:
        stds = std.expand_as(target).unsqueeze(0)
        return -mixture_log_prob(samples, stds, target).sum(dim=0)

    return positive_minimum(loss, low, high * 1.001)[0].to(prediction.mean.dtype)


def noise_std_from_weight_decay(
    *, p: float, length_scale: float, n_rows: int, weight_decay: float
) -> float:
    """Noise level that dropout training with weight decay implies.

    tau = (1 - p) l^2 / (2 N lambda), noise_std = tau^-1/2.

    Args:
        p: Dropout rate, in [0, 1).
        length_scale: Prior length scale l, > 0.
        n_rows: Number of training rows N.
        weight_decay: lambda, the factor of the squared weights in the loss that averages squared
            errors over rows.

    Returns:
        Standard deviation of the noise, units of y as the network was trained on it.

    Raises:
        RangeError: If an argument lies outside its range.

    Source:
        Gal & Ghahramani (2016), eq. 7.

    Example:
        >>> noise_std_from_weight_decay(p=0.5, length_scale=1.0, n_rows=100, weight_decay=0.0025)
        1.0
    """
    ranges = (
        ("p", p, 0 <= p < 1, "lie in [0, 1)"),
        ("length_scale", length_scale, length_scale > 0, "be positive"),
        ("n_rows", n_rows, n_rows >= 1, "be at least 1"),
        ("weight_decay", weight_decay, weight_decay > 0, "be positive"),
    )
    for argument, value, fits, condition in ranges:
        if not fits:
            raise RangeError.of(
                "noise_std_from_weight_decay", argument, condition, value, "Pass the training value"
            )
    return math.sqrt(2 * n_rows * weight_decay / ((1 - p) * length_scale**2))
