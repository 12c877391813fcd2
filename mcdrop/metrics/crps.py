"""Continuous ranked probability score and its many-output form, the energy score."""

from __future__ import annotations

import math
from typing import Literal

import torch

from mcdrop._masks.grid import independent_sets, on_grid
from mcdrop._masks.pairs import pair_correlations
from mcdrop._masks.stratified import STRATUM
from mcdrop.checks import (
    require_choice,
    require_finite,
    require_rows,
    require_same_shape,
    require_spread,
    require_unit,
    shown,
)
from mcdrop.errors import ShapeError
from mcdrop.metrics._arrays import Array, ArrayLike, require_passes, take
from mcdrop.metrics._strata import require_stratum

Estimator = Literal["fair", "energy"]


def crps_normal(mean: ArrayLike, std: ArrayLike, y: ArrayLike) -> Array:
    """Continuous ranked probability score of a normal prediction; lower is better.

    CRPS = std (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), z = (y - mean) / std. At std = 0
    it is the absolute error.

    Args:
        mean: Predictive means, shape (N,) or (N, D), units of y.
        std: Predictive standard deviations, same shape, at least 0.
        y: Targets, same shape.

    Returns:
        One score per target in units of y, in the shape, kind and dtype of the prediction.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a standard deviation is negative.

    Source:
        Gneiting et al. (2005), Calibrated probabilistic forecasting using ensemble model
        output statistics.

    Example:
        >>> crps_normal([0.0], [1.0], [0.0]).round(4)  # (sqrt(2) - 1) / sqrt(pi)
        array([0.2337])
    """
    origin, (center, spread, target) = take("crps_normal", mean=mean, std=std, y=y)
    require_rows("crps_normal", "y", target)
    require_same_shape("crps_normal", "mean", center, target)
    require_same_shape("crps_normal", "std", spread, target)
    require_finite("crps_normal", mean=center, std=spread, y=target)
    require_spread("crps_normal", "std", spread, zero=True)
    return origin.restore(_crps_normal(center, spread, target))


def _crps_normal(mean: torch.Tensor, std: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    point = std == 0
    scale = torch.where(point, 1.0, std)
    z = (y - mean) / scale
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    score = scale * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
    return torch.where(point, (y - mean).abs(), score)


def crps_ensemble(
    samples: ArrayLike,
    y: ArrayLike,
    *,
    estimator: Estimator = "fair",
    stratum: int | None = None,
    p: float | None = None,
) -> Array:
    """Continuous ranked probability score of an ensemble; lower is better.

    CRPS(F, y) = E|X - y| - 1/2 E|X - X'|, with X, X' ~ F independent. The pair term is taken
    from the sorted passes, so the cost is S log S per row.

    Args:
        samples: Predictive draws, shape (S, N) or (S, N, D), units of y.
        y: Targets, shape (N,) or (N, D).
        estimator: "fair" divides the pair term by S (S - 1): unbiased for the distribution
            the passes are drawn from, needs S >= 2, may be slightly negative. "energy"
            divides by S^2: the score of the S passes as they are.
        stratum: Passes in one stratum of stratified passes: 16 where
            ``prediction.run.stratified``, None for independent passes. Passes of one stratum are
            negatively correlated, which makes E|X - X'| of their pairs too large, so the fair
            pair term is averaged over pairs that are independent: those of different strata, or
            for fewer than 32 passes, which lie on a grid, those in one of its lines. `samples`
            have to be all passes of the run then, in order.
        p: Dropout rate, if it is the same at all sites and `stratum` is 16. Where 16 p is not
            whole, the drops of a unit are also balanced over 64 passes, so that 32 passes or more
            of different strata are slightly correlated (-0.007 at p = 0.1, -0.0007 at p = 0.3).
            The pair term is then extrapolated to correlation 0 from these pairs and those of the
            same stratum, whose correlations are known.

    Returns:
        One score per target in units of y, in the shape of `y`, kind and dtype of `samples`.

    Raises:
        ShapeError: If `samples` is not (S, N) with N = len(y), or S is too small.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If `estimator` is not one of the two names, `stratum` is below 2, or not 16
            although there are no two strata, or `p` is not in (0, 1).

    Source:
        Gneiting & Raftery (2007), section 4.2; fair form: Ferro (2014).

    Example:
        >>> crps_ensemble(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0]))
        tensor([0.])
        >>> crps_ensemble(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0]), estimator="energy")
        tensor([0.5000])
    """
    require_choice("crps_ensemble", "estimator", estimator, ("fair", "energy"))
    origin, (draws, target) = take("crps_ensemble", samples=samples, y=y)
    require_rows("crps_ensemble", "y", target)
    least = 2 if estimator == "fair" else 1
    require_passes("crps_ensemble", "samples", draws, target, least=least)
    require_finite("crps_ensemble", axis=1, samples=draws)
    require_finite("crps_ensemble", y=target)
    if stratum is not None:
        require_stratum("crps_ensemble", stratum, len(draws))
    if p is not None:
        remedy = "Pass the rate of the dropout layers, or leave it out"
        require_unit("crps_ensemble", "p", p, remedy=remedy)
    if estimator == "fair" and stratum is not None:
        half_spread = _half_spread_of_independent(draws, stratum, p)
        return origin.restore((draws - target).abs().mean(dim=0) - half_spread)
    return origin.restore(ensemble_scores(draws, target, estimator))


def _pairs(passes: int, estimator: str) -> int:
    return passes * (passes - 1) if estimator == "fair" else passes * passes


def ensemble_scores(samples: torch.Tensor, y: torch.Tensor, estimator: str) -> torch.Tensor:
    """CRPS of passes (S, ...) against targets (...)."""
    half_spread = _pair_sum(samples) / _pairs(samples.shape[0], estimator)
    return (samples - y).abs().mean(dim=0) - half_spread


def _half_spread_of_independent(
    samples: torch.Tensor, stratum: int, p: float | None
) -> torch.Tensor:
    """Estimate E|X - X'| / 2 for independent X, X' from stratified passes."""
    passes = samples.shape[0]
    if stratum == STRATUM and on_grid(passes, stratified=True):
        lines = [samples[list(line)] for line in independent_sets(passes)]
        within = sum((_pair_sum(each) for each in lines), torch.zeros_like(samples[0]))
        return within / sum(_pairs(len(each), "fair") for each in lines)
    strata = samples.split(int(stratum))
    within = sum((_pair_sum(each) for each in strata), torch.zeros_like(samples[0]))
    n_within = sum(len(each) ** 2 for each in strata)
    across = (_pair_sum(samples) - within) / (passes**2 - n_within)
    if p is None or stratum != STRATUM:
        return across
    of_within, of_across = pair_correlations(p, passes)
    # Linear in the correlation, up to the product of the two: below 1e-3.
    beyond = of_across / (of_across - of_within)
    return across + beyond * (within / (n_within - passes) - across)


def _pair_sum(samples: torch.Tensor) -> torch.Tensor:
    """Return the sum of |x - x'| over pairs of passes."""
    passes = samples.shape[0]
    ordered = samples.sort(dim=0).values
    # The rank weights sum to zero, so centring changes nothing but the rounding error.
    ordered = ordered - ordered[passes // 2].clone()
    rank = torch.arange(1 - passes, passes, 2, dtype=samples.dtype, device=samples.device)
    total: torch.Tensor = torch.tensordot(rank, ordered, dims=1)
    return total


def energy_score(samples: ArrayLike, y: ArrayLike, *, estimator: Estimator = "fair") -> Array:
    """Energy score of an ensemble of vectors; lower is better.

    ES(F, y) = E||X - y|| - 1/2 E||X - X'||, Euclidean norm over the D outputs: the CRPS of a
    joint prediction, which also sees the correlation between outputs.

    Args:
        samples: Predictive draws, shape (S, N, D), units of y.
        y: Targets, shape (N, D).
        estimator: "fair" divides the pair term by S (S - 1), "energy" by S^2.

    Returns:
        One score per row, shape (N,), in units of y (scale outputs of unlike units first).

    Raises:
        ShapeError: If `samples` is not (S, N, D) to match `y`, or S is too small.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If `estimator` is not one of the two names.

    Source:
        Gneiting & Raftery (2007), section 4.3.

    Example:
        >>> passes = [[[0.0, 0.0]], [[3.0, 4.0]]]  # 5 apart, the target on the first
        >>> energy_score(passes, [[0.0, 0.0]])  # (0 + 5) / 2 - 5 / 2
        array([0.])
    """
    require_choice("energy_score", "estimator", estimator, ("fair", "energy"))
    origin, (draws, target) = take("energy_score", samples=samples, y=y)
    require_rows("energy_score", "y", target)
    if target.ndim != 2:
        remedy = "Use crps_ensemble for single outputs, or flatten the outputs of a row"
        raise ShapeError.of("energy_score", "y", "have shape (N, D)", shown(target.shape), remedy)
    least = 2 if estimator == "fair" else 1
    require_passes("energy_score", "samples", draws, target, least=least)
    require_finite("energy_score", axis=1, samples=draws)
    require_finite("energy_score", y=target)
    pairs = _pairs(draws.shape[0], estimator)
    return origin.restore(_energy_score(draws, target, pairs))


def _energy_score(samples: torch.Tensor, y: torch.Tensor, pairs: int) -> torch.Tensor:
    distance: torch.Tensor = torch.linalg.vector_norm(samples - y, dim=2).mean(dim=0)
    # Distances between passes take S^2 numbers per row: a few rows at a time keep that small.
    rows = max(1, 2**22 // samples.shape[0] ** 2)
    spread = [
        torch.cdist(block, block, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=(1, 2))
        for block in torch.split(samples.movedim(1, 0), rows)
    ]
    return distance - torch.cat(spread) / (2 * pairs)
