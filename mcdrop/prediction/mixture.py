"""The equal-weight mixture of normals over passes: log density and quantiles.

Inside, nothing is validated; shapes are (S, N, ...) and all tensors are float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "empirical_quantile",
    "mixture_log_prob",
    "mixture_quantile",
    "normal_distribution",
    "quantile_by_blocks",
]

_FAR_OUT = 1e-10
# Newton takes 6 to 20 steps where it converges. Between well separated components it can run in a
# circle inside the bracket, which every second step then halves: 2^-40 of it is 1e-12.
_NEWTON_STEPS, _MOST_STEPS = 20, 100


def mixture_log_prob(means: Tensor, stds: Tensor, y: Tensor) -> Tensor:
    """Log density of (1/S) sum_s N(means_s, stds_s^2) at `y`; Gal & Ghahramani (2016), eq. 8."""
    z = (y - means) / stds
    log_components = -0.5 * z.square() - stds.log() - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(log_components, dim=0) - math.log(means.shape[0])


def normal_distribution(z: Tensor) -> Tensor:
    """Phi(z), to full relative precision in the lower tail, where `torch.special.ndtr` has none."""
    return 0.5 * torch.erfc(-z / math.sqrt(2))


def empirical_quantile(samples: Tensor, q: float) -> Tensor:
    """Quantile over passes by linear interpolation of the order statistics (NumPy's default)."""
    ordered = samples.sort(dim=0).values
    position = q * (samples.shape[0] - 1)
    below = min(int(position), samples.shape[0] - 1)
    above = min(below + 1, samples.shape[0] - 1)
    return torch.lerp(ordered[below], ordered[above], position - below)


def mixture_quantile(means: Tensor, stds: Tensor, q: float) -> Tensor:
    """Quantile of the mixture by Newton steps, safeguarded by bisection.

    The quantile of a mixture lies between the smallest and the largest quantile of its
    components, which gives a bracket; F is increasing, so the bracket only shrinks.
    """
    z = torch.special.ndtri(torch.tensor(q, dtype=means.dtype, device="cpu")).item()
    component = means + stds * z
    low, high = component.amin(dim=0), component.amax(dim=0)
    x = component.mean(dim=0)
    moving = torch.ones_like(x, dtype=torch.bool)
    for number in range(_MOST_STEPS):
        z = (x - means) / stds
        excess = normal_distribution(z).mean(dim=0) - q
        low = torch.where(excess < 0, x, low)
        high = torch.where(excess > 0, x, high)
        density = (torch.exp(-0.5 * z.square()) / stds).mean(dim=0) / math.sqrt(2 * math.pi)
        # Far out F is nearly exponential, and Newton steps on F itself would crawl.
        change = torch.log1p(excess / q) * (excess + q) if q < _FAR_OUT else excess
        newton = x - change / density
        inside = (newton >= low) & (newton <= high)
        if number >= _NEWTON_STEPS and number % 2 == 0:
            inside &= ~moving
        step = torch.where(inside, newton, 0.5 * (low + high))
        step = torch.where(excess == 0, x, step)
        moved = (step - x).abs()
        x = step
        moving = moved > 1e-12 * (high - low + x.abs())
        if not bool(moving.any()):
            break
    return x


def quantile_by_blocks(samples: Tensor, variances: Tensor, q: float) -> Tensor:
    """Return the quantile of the mixture in float64, by blocks of rows to save memory."""

    def solved(means: Tensor, spreads: Tensor) -> Tensor:
        # Passes without noise get a little, so that the mixture has a density.
        floor = 1e-12 * (1 + means.abs().amax())
        return mixture_quantile(means, spreads.sqrt().clamp_min(floor), q)

    rows = max(1, 2**21 // max(1, samples[:, :1].numel()))
    blocks = zip(samples.split(rows, dim=1), variances.split(rows, dim=1), strict=True)
    return torch.cat([solved(m.double(), v.double()) for m, v in blocks])
