"""Further forms of the CRPS: of a mixture of normals, and weighted to a range of outcomes."""

from __future__ import annotations

import math

import torch

from mcdrop.checks import as_number, require_choice, require_finite, require_rows
from mcdrop.errors import RangeError
from mcdrop.metrics._arrays import Array, ArrayLike, require_passes, take
from mcdrop.metrics.crps import Estimator, ensemble_scores
from mcdrop.metrics.regression import take_mixture

# Pairs of passes held at once: 32 MiB in float64.
_PAIRS_AT_ONCE = 2**22


def crps_mixture(means: ArrayLike, stds: ArrayLike, y: ArrayLike) -> Array:
    """CRPS of the equal mixture of S normals in closed form; lower is better.

    CRPS = mean_s A(y - m_s, v_s^2) - 1/2 mean_st A(m_s - m_t, v_s^2 + v_t^2), with
    A(m, v^2) = E|X| for X normal: 2 v phi(m / v) + m (2 Phi(m / v) - 1). This is the score of
    the predictive distribution of MC dropout with observation noise; the S passes are taken as
    that distribution, not as a sample of it.

    Args:
        means: Mean of each pass, shape (S, N) or (S, N, D), units of y.
        stds: Observation noise of each pass, same shape, above 0.
        y: Targets, shape (N,) or (N, D).

    Returns:
        One score per target in units of y, in the shape of `y`, kind and dtype of the
        prediction. The cost is S^2 per target.

    Raises:
        ShapeError: If `means` or `stds` is not (S, N) with N = len(y), or there are no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a standard deviation is not above 0.

    Source:
        Grimit, Gneiting, Berrocal & Johnson (2006), The continuous ranked probability score
        for circular variables, equation 5.

    Example:
        >>> crps_mixture([[0.0], [0.0]], [[1.0], [1.0]], [0.0]).round(4)  # one normal, twice
        array([0.2337])
    """
    origin, centers, spreads, target = take_mixture("crps_mixture", means, stds, y)
    flat, spread = centers.flatten(1), spreads.flatten(1)
    distance = _mean_distance(target.flatten() - flat, spread).mean(dim=0)
    rows = max(1, _PAIRS_AT_ONCE // len(flat) ** 2)
    pairs = [
        _mean_distance(
            m.unsqueeze(0) - m.unsqueeze(1),
            (v.square().unsqueeze(0) + v.square().unsqueeze(1)).sqrt(),
        ).mean(dim=(0, 1))
        for m, v in zip(flat.split(rows, dim=1), spread.split(rows, dim=1), strict=True)
    ]
    return origin.restore((distance - torch.cat(pairs) / 2).reshape(target.shape))


def _mean_distance(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """E|X| of a normal X."""
    z = mean / std
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return 2 * std * density + mean * torch.erf(z / math.sqrt(2))


def threshold_weighted_crps(
    samples: ArrayLike,
    y: ArrayLike,
    *,
    lower: float = -math.inf,
    upper: float = math.inf,
    estimator: Estimator = "fair",
) -> Array:
    """CRPS that counts only what a prediction says between two thresholds; lower is better.

    twCRPS = integral from `lower` to `upper` of (F(t) - 1[t >= y])^2 dt, the CRPS of passes and
    target clamped to [lower, upper]. It is proper, while the CRPS of the rows whose target came
    out extreme is not: that one rewards predicting extremes always.

    Args:
        samples: Predictive draws, shape (S, N) or (S, N, D), units of y.
        y: Targets, shape (N,) or (N, D).
        lower: Lower threshold, units of y.
        upper: Upper threshold, above `lower`.
        estimator: As in `crps_ensemble`.

    Returns:
        One score per target in units of y, in the shape of `y`, kind and dtype of `samples`.

    Raises:
        ShapeError: If `samples` is not (S, N) with N = len(y), or S is too small.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If the thresholds are not in order, or `estimator` is not one of the names.

    Source:
        Gneiting & Ranjan (2011), Comparing density forecasts using threshold- and
        quantile-weighted scoring rules; Allen, Ginsbourger & Ziegel (2023) for the clamped form.

    Example:
        >>> above = threshold_weighted_crps([[0.0], [2.0]], [3.0], lower=1.0, estimator="energy")
        >>> above  # F is 1/2 from 1 to 2, 1 from 2 to 3: 1/4 + 1
        array([1.25])
    """
    function = "threshold_weighted_crps"
    require_choice(function, "estimator", estimator, ("fair", "energy"))
    if not as_number(lower) < as_number(upper):
        remedy = "Pass lower= for scores above a threshold, upper= for scores below one"
        raise RangeError.of(function, "lower", f"be below `upper`, {upper}", lower, remedy)
    origin, (draws, target) = take(function, samples=samples, y=y)
    require_rows(function, "y", target)
    least = 2 if estimator == "fair" else 1
    require_passes(function, "samples", draws, target, least=least)
    require_finite(function, axis=1, samples=draws)
    require_finite(function, y=target)
    clamped = draws.clamp(lower, upper), target.clamp(lower, upper)
    return origin.restore(ensemble_scores(*clamped, estimator))
