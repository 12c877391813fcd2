"""Probability integral transform: the predictive distribution function at each target."""

from __future__ import annotations

import numpy as np
import torch

from mcdrop._masks.grid import independent_sets, on_grid
from mcdrop._masks.stratified import STRATUM
from mcdrop.checks import (
    require_count,
    require_finite,
    require_rows,
    require_same_shape,
    require_spread,
    rows_text,
)
from mcdrop.errors import RangeError
from mcdrop.metrics._arrays import Array, ArrayLike, Float64, float64, require_passes, take
from mcdrop.metrics._strata import require_stratum
from mcdrop.metrics.regression import take_mixture


def pit_normal(mean: ArrayLike, std: ArrayLike, y: ArrayLike) -> Array:
    """Probability integral transform of a normal prediction; uniform if calibrated.

    u = Phi((y - mean) / std).

    Args:
        mean: Predictive means, shape (N,) or (N, D), units of y.
        std: Predictive standard deviations including observation noise, same shape, above 0.
        y: Targets, same shape.

    Returns:
        One value in [0, 1] per target, in the shape, kind and dtype of the prediction.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a standard deviation is not above 0.

    Source:
        Dawid (1984); Gneiting, Balabdaoui & Raftery (2007).

    Example:
        >>> pit_normal([0.0], [1.0], [0.0])
        array([0.5])
    """
    origin, (center, spread, target) = take("pit_normal", mean=mean, std=std, y=y)
    require_rows("pit_normal", "y", target)
    require_same_shape("pit_normal", "mean", center, target)
    require_same_shape("pit_normal", "std", spread, target)
    require_finite("pit_normal", mean=center, std=spread, y=target)
    require_spread("pit_normal", "std", spread)
    return origin.restore(torch.special.ndtr((target - center) / spread))


def pit_mixture(means: ArrayLike, stds: ArrayLike, y: ArrayLike) -> Array:
    """Probability integral transform of the equal mixture of S normals; uniform if calibrated.

    u = mean over s of Phi((y - means_s) / stds_s).

    Args:
        means: Mean of each pass, shape (S, N) or (S, N, D), units of y.
        stds: Observation noise of each pass, same shape, above 0.
        y: Targets, shape (N,) or (N, D).

    Returns:
        One value in [0, 1] per target, in the shape of `y`, kind and dtype of the prediction.

    Raises:
        ShapeError: If `means` or `stds` is not (S, N) with N = len(y), or there are no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a standard deviation is not above 0.

    Source:
        Dawid (1984); Gneiting, Balabdaoui & Raftery (2007).

    Example:
        >>> pit_mixture([[-1.0], [1.0]], [[1.0], [1.0]], [0.0])
        array([0.5])
    """
    origin, centers, spreads, target = take_mixture("pit_mixture", means, stds, y)
    return origin.restore(torch.special.ndtr((target - centers) / spreads).mean(dim=0))


def pit(
    samples: ArrayLike, y: ArrayLike, *, seed: int | None = 0, stratum: int | None = None
) -> Array:
    """Probability integral transform of an ensemble; uniform if calibrated.

    u = (r + V (1 + t)) / (S + 1), with r passes below y, t equal to it and V uniform on
    [0, 1]. The random V makes u exactly uniform when y could be one of the passes, for any S
    and with ties. The passes must include observation noise.

    Args:
        samples: Predictive draws, shape (S, N) or (S, N, D), units of y.
        y: Targets, shape (N,) or (N, D).
        seed: Seed of V, a different one for each batch of rows; None puts every V at 1/2,
            which leaves steps of 1 / (S + 1).
        stratum: Passes in one stratum of stratified passes: 16 where
            ``prediction.run.stratified``, None for independent passes. Passes of one stratum are
            negatively correlated, so ranks among all of them are not uniform (their variance is
            6 % too small for S = 16, 1 % for S = 100). Then only passes that are independent
            count, whose ranks are uniform but coarser: the first of each stratum, or for fewer
            than 32 passes, which lie on a grid, the four of its first row. `samples` have to be
            all passes of the run then, in order.

    Returns:
        One value in [0, 1] per target, in the shape of `y`, kind and dtype of `samples`.

    Raises:
        ShapeError: If `samples` is not (S, N) with N = len(y), or there are no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If `stratum` is below 2, or it is not 16 and there are no two strata.

    Source:
        Hamill (2001) for ranks; Czado, Gneiting & Held (2009) for the randomized form.

    Example:
        >>> pit([[0.0], [1.0], [2.0]], [1.5], seed=None)  # two of three below: (2 + 1/2) / 4
        array([0.625])
    """
    origin, (draws, target) = take("pit", samples=samples, y=y)
    require_rows("pit", "y", target)
    require_passes("pit", "samples", draws, target)
    require_finite("pit", axis=1, samples=draws)
    require_finite("pit", y=target)
    if seed is not None:
        require_count("pit", "seed", seed, 0)
    if stratum is not None:
        require_stratum("pit", stratum, len(draws))
        draws = draws[_independent(len(draws), stratum)]
    below, ties = (draws < target).sum(dim=0), (draws == target).sum(dim=0)
    place = torch.full_like(target, 0.5)
    if seed is not None:
        uniform = np.random.default_rng(seed).uniform(size=tuple(target.shape))
        place = torch.from_numpy(uniform).to(place)
    return origin.restore((below + place * (1 + ties)) / (draws.shape[0] + 1))


def _independent(passes: int, stratum: int) -> list[int]:
    """Return the numbers of passes that are independent of one another."""
    if stratum == STRATUM and on_grid(passes, stratified=True):
        return list(independent_sets(passes)[0]) if passes > 1 else [0]
    return list(range(0, passes, stratum))


def take_pit(function: str, pit_values: ArrayLike) -> Float64:
    """Take PIT values as one flat array."""
    _, (values,) = take(function, pit_values=pit_values)
    require_rows(function, "pit_values", values)
    require_finite(function, pit_values=values)
    bad = (values < 0) | (values > 1)
    if bool(bad.any()):
        raise RangeError.of(
            function,
            "pit_values",
            "lie in [0, 1]",
            f"{float(values[bad][0]):g} in {rows_text(bad)}",
            "Pass the result of pit, pit_normal or pit_mixture",
        )
    return float64(values.flatten())
