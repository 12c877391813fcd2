"""How large the observation noise is: from held-out data, or from the weight decay of training."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from mcdrop.checks import require_choice
from mcdrop.errors import RangeError
from mcdrop.metrics._search import positive_minimum
from mcdrop.prediction.mixture import mixture_log_prob
from mcdrop.prediction.regression import RegressionPrediction
from mcdrop.prediction.targets import aligned_targets

__all__ = ["fit_noise_std", "noise_std_from_weight_decay"]


def fit_noise_std(prediction: RegressionPrediction, y: Any) -> Tensor:
    """Noise level tau^-1/2 that makes held-out targets most likely under the mixture over passes.

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
    target = aligned_targets("fit_noise_std", y, prediction.mean, index=prediction.index)
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
    *,
    p: float,
    length_scale: float,
    n_rows: int,
    weight_decay: float,
    loss: Literal["half_squared_error", "squared_error"] = "half_squared_error",
    reduction: Literal["mean", "sum"] = "mean",
    n_outputs: int = 1,
    penalty: Literal["explicit", "optimizer"] = "explicit",
    weights: Literal["unscaled", "inverted"] = "unscaled",
) -> float:
    """Noise level tau^-1/2 that dropout training with weight decay implies.

    Training minimizes ``(c / s) sum (y - f(x))^2 + kappa |W|^2``. It is variational inference with
    the prior N(0, 1 / length_scale^2) of each weight for

        tau = (1 - p) l^2 c / (s kappa)    where the network uses W z, z ~ Bernoulli(1 - p),
        tau = l^2 c / ((1 - p) s kappa)    where it uses W z / (1 - p), as torch does.

    c is 1/2 or 1 by `loss`, s the number of squared errors that are averaged, and kappa is
    `weight_decay`, or half of it where it is the argument of an optimizer. The defaults are the
    convention of Gal & Ghahramani (2016), tau = (1 - p) l^2 / (2 N lambda). A model of
    `nn.Dropout` trained with `nn.MSELoss` and ``torch.optim.SGD(..., weight_decay=)`` takes
    ``loss="squared_error", penalty="optimizer", weights="inverted"``, and its number of outputs.

    Args:
        p: Dropout rate, in [0, 1).
        length_scale: Prior length scale l, > 0.
        n_rows: Number of training rows N.
        weight_decay: lambda, the factor of the squared weights, in the convention below.
        loss: "half_squared_error" or "squared_error" of each output, as `nn.MSELoss` takes.
        reduction: "mean" over rows, or "sum" over all N rows. For a sum over batches of B rows pass
            "mean" and ``weight_decay / B``.
        n_outputs: Outputs that a mean averages over too, as `nn.MSELoss` does; 1 where the errors
            of a row are summed.
        penalty: "explicit" for lambda |W|^2 in the loss; "optimizer" for `weight_decay=` of
            `torch.optim.SGD` or `Adam`, which add lambda W to the gradient, that of
            (lambda / 2) |W|^2. The decoupled decay of `AdamW` minimizes no such loss.
        weights: "inverted" where survivors are scaled by 1 / (1 - p) in training, as by
            `nn.Dropout` and `mcdrop.layers`; "unscaled" for the weights of the 2016 paper.

    Returns:
        Standard deviation of the noise, units of y as the network was trained on it.

    Raises:
        RangeError: If an argument lies outside its range.

    Source:
        Gal & Ghahramani (2016), eq. 7; docs/noise.md derives every convention.

    Example:
        >>> noise_std_from_weight_decay(p=0.5, length_scale=1.0, n_rows=100, weight_decay=0.0025)
        1.0
        >>> noise_std_from_weight_decay(
        ...     p=0.5, length_scale=1.0, n_rows=100, weight_decay=0.04,
        ...     loss="squared_error", penalty="optimizer", weights="inverted")
        1.0
    """
    function = "noise_std_from_weight_decay"
    require_choice(function, "loss", loss, ("half_squared_error", "squared_error"))
    require_choice(function, "reduction", reduction, ("mean", "sum"))
    require_choice(function, "penalty", penalty, ("explicit", "optimizer"))
    require_choice(function, "weights", weights, ("unscaled", "inverted"))
    ranges = (
        ("p", p, 0 <= p < 1, "lie in [0, 1)"),
        ("length_scale", length_scale, length_scale > 0, "be positive"),
        ("n_rows", n_rows, n_rows >= 1, "be at least 1"),
        ("weight_decay", weight_decay, weight_decay > 0, "be positive"),
        ("n_outputs", n_outputs, n_outputs >= 1, "be at least 1"),
    )
    for argument, value, fits, condition in ranges:
        if not fits:
            raise RangeError.of(function, argument, condition, value, "Pass the training value")
    averaged = n_rows * n_outputs if reduction == "mean" else 1
    kappa = weight_decay if penalty == "explicit" else weight_decay / 2
    halves = 2 if loss == "half_squared_error" else 1
    keep = 1 - p if weights == "unscaled" else 1 / (1 - p)
    return math.sqrt(halves * averaged * kappa / (keep * length_scale**2))
