"""Point errors, sharpness and log scores of real-valued predictions."""

from __future__ import annotations

import math

import torch

from mcdrop.checks import (
    require_finite,
    require_rows,
    require_same_shape,
    require_spread,
)
from mcdrop.errors import ShapeError
from mcdrop.metrics._arrays import (
    Array,
    ArrayLike,
    Origin,
    require_passes,
    row_means,
    take,
    take_weights,
)
from mcdrop.metrics._reduction import Reduction, finished, mean_of

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@finished
def rmse(mean: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None) -> Reduction[float]:
    """Root mean squared error of the predictive mean; lower is better.

    RMSE = sqrt(mean over rows (and outputs) of (mean - y)^2).

    Args:
        mean: Predictive means, shape (N,) or (N, D), units of y.
        y: Targets, same shape.
        weights: How much each row counts, shape (N,); equal by default.

    Returns:
        One number in units of y.

    Raises:
        ShapeError: If `mean` and `y` differ in shape or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a weight is negative or all are zero.

    Source:
        Hyndman & Koehler (2006), Another look at measures of forecast accuracy.

    Example:
        >>> rmse([1.0, 7.0], [0.0, 0.0])  # sqrt((1 + 49) / 2)
        5.0
    """
    error = _errors("rmse", mean, y)
    return mean_of(row_means(error.square()), take_weights("rmse", weights, error), "root")


@finished
def mae(mean: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None) -> Reduction[float]:
    """Mean absolute error of a point prediction; lower is better.

    MAE = mean over rows (and outputs) of |mean - y|. It is smallest for the predictive
    median, so give the median where the predictive distribution is skewed.

    Args:
        mean: Point predictions, shape (N,) or (N, D), units of y.
        y: Targets, same shape.
        weights: How much each row counts, shape (N,); equal by default.

    Returns:
        One number in units of y.

    Raises:
        ShapeError: If `mean` and `y` differ in shape or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a weight is negative or all are zero.

    Source:
        Gneiting (2011), Making and evaluating point forecasts.

    Example:
        >>> mae([1.0, 2.0], [4.0, 0.0])
        2.5
    """
    error = _errors("mae", mean, y)
    return mean_of(row_means(error.abs()), take_weights("mae", weights, error))


def _errors(function: str, mean: ArrayLike, y: ArrayLike) -> torch.Tensor:
    _, (center, target) = take(function, mean=mean, y=y)
    require_rows(function, "y", target)
    require_same_shape(function, "mean", center, target)
    require_finite(function, mean=center, y=target)
    return center - target


@finished
def sharpness(std: ArrayLike, *, weights: ArrayLike | None = None) -> Reduction[float]:
    """Root mean predictive variance; smaller is sharper, good only if also calibrated.

    sharpness = sqrt(mean over rows (and outputs) of std^2), directly comparable with `rmse`:
    for a calibrated predictor the two agree on average.

    Args:
        std: Predictive standard deviations, shape (N,) or (N, D), units of y.
        weights: How much each row counts, shape (N,); equal by default.

    Returns:
        One number in units of y. It does not look at the targets.

    Raises:
        ShapeError: If `std` holds no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a standard deviation is negative.

    Source:
        Kuleshov, Fenner & Ermon (2018) (they report the square).

    Example:
        >>> sharpness([1.0, 7.0])  # sqrt((1 + 49) / 2)
        5.0
    """
    _, (spread,) = take("sharpness", std=std)
    require_rows("sharpness", "std", spread)
    require_finite("sharpness", std=spread)
    require_spread("sharpness", "std", spread, zero=True)
    row_weights = take_weights("sharpness", weights, spread)
    return mean_of(row_means(spread.square()), row_weights, "root")


def nll_normal(mean: ArrayLike, std: ArrayLike, y: ArrayLike) -> Array:
    """Negative log-likelihood of a normal prediction; lower is better.

    NLL = log(std) + log(2 pi) / 2 + ((y - mean) / std)^2 / 2. With the mean and standard
    deviation of several passes this is the moment-matched normal, which differs from
    `nll_mixture` of the same passes.

    Args:
        mean: Predictive means, shape (N,) or (N, D), units of y.
        std: Predictive standard deviations including observation noise, same shape, above 0.
        y: Targets, same shape.

    Returns:
        One score per target in nats, in the shape, kind and dtype of the prediction.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a standard deviation is not above 0.

    Source:
        Gneiting & Raftery (2007) (logarithmic score).

    Example:
        >>> nll_normal([0.0], [1.0], [0.0]).round(4)  # log(2 pi) / 2
        array([0.9189])
    """
    origin, (center, spread, target) = take("nll_normal", mean=mean, std=std, y=y)
    require_rows("nll_normal", "y", target)
    require_same_shape("nll_normal", "mean", center, target)
    require_same_shape("nll_normal", "std", spread, target)
    require_finite("nll_normal", mean=center, std=spread, y=target)
    require_spread("nll_normal", "std", spread)
    return origin.restore(_nll_normal(center, spread, target))


def _nll_normal(mean: torch.Tensor, std: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return 0.5 * ((y - mean) / std).square() + std.log() + _HALF_LOG_TWO_PI


def nll_mixture(means: ArrayLike, stds: ArrayLike, y: ArrayLike) -> Array:
    """Negative log-likelihood of the equal mixture of S normals; lower is better.

    NLL = log S - logsumexp over s of log N(y; means_s, stds_s^2): the predictive density of
    S stochastic passes, each with observation noise stds_s.

    Args:
        means: Mean of each pass, shape (S, N) or (S, N, D), units of y.
        stds: Observation noise of each pass, same shape, above 0.
        y: Targets, shape (N,) or (N, D).

    Returns:
        One score per target in nats, in the shape of `y`, kind and dtype of the prediction.

    Raises:
        ShapeError: If `means` or `stds` is not (S, N) with N = len(y), or there are no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a standard deviation is not above 0.

    Source:
        Gal & Ghahramani (2016), equation 8.

    Example:
        >>> nll_mixture([[0.0], [0.0]], [[1.0], [1.0]], [0.0]).round(4)  # one normal, twice
        array([0.9189])
    """
    origin, centers, spreads, target = take_mixture("nll_mixture", means, stds, y)
    log_density = -_nll_normal(centers, spreads, target)
    return origin.restore(math.log(centers.shape[0]) - torch.logsumexp(log_density, dim=0))


def take_mixture(
    function: str, means: ArrayLike, stds: ArrayLike, y: ArrayLike
) -> tuple[Origin, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Take the passes of a mixture of normals and their targets."""
    origin, (centers, spreads, target) = take(function, means=means, stds=stds, y=y)
    require_rows(function, "y", target)
    require_passes(function, "means", centers, target)
    require_passes(function, "stds", spreads, target)
    if spreads.shape[0] != centers.shape[0]:
        wanted = f"have as many passes as `means`, {centers.shape[0]}"
        remedy = "Repeat the noise for each pass: stds.expand(S, -1)"
        raise ShapeError.of(function, "stds", wanted, spreads.shape[0], remedy)
    require_finite(function, axis=1, means=centers, stds=spreads)
    require_finite(function, y=target)
    require_spread(function, "stds", spreads, axis=1)
    return origin, centers, spreads, target
