"""Contestants that need no library.

Moments propagated layer by layer, antithetic pairs, and passes sorted into levels.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["antithetic_copy", "multilevel", "propagated"]

# Passes of the coarsest level.
_COARSEST = 4


class Antithetic(nn.Module):
    """Dropout whose every second call keeps a unit iff 1 - u > p, where the call before drew u."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._drawn: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop units of x, (N, ...)."""
        if self._drawn is None:
            self._drawn = torch.rand_like(x)
            uniform = self._drawn
        else:
            uniform, self._drawn = 1 - self._drawn, None
        return torch.where(uniform >= self.p, x / (1 - self.p), 0)


def antithetic_copy(model: nn.Sequential) -> nn.Sequential:
    """Return a copy of a chain of layers whose passes are antithetic pairs."""
    layers = (
        Antithetic(each.p) if isinstance(each, nn.Dropout) else copy.deepcopy(each)
        for each in model
    )
    return nn.Sequential(*layers).eval()


def propagated(model: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Propagate mean and variance, units taken as independent and normal, without a pass.

    Source: Postels et al. (2019), "Sampling-free epistemic uncertainty estimation using
    approximated variance propagation".

    Args:
        model: A chain of linear layers, ReLU and dropout.
        x: Rows, (N, F).

    Returns:
        Mean and variance over masks, each (N, D).
    """
    mean, variance = x, torch.zeros_like(x)
    for layer in model:
        if isinstance(layer, nn.Linear):
            mean = layer(mean)
            variance = F.linear(variance, layer.weight.square())
        elif isinstance(layer, nn.ReLU):
            mean, variance = _rectified(mean, variance)
        elif isinstance(layer, nn.Dropout):
            # E[m^2] = 1 / (1 - p) for a multiplier m of mean 1.
            square = (variance + mean.square()) / (1 - layer.p)
            variance = square - mean.square()
        else:
            raise TypeError(f"variance propagation knows no {type(layer).__name__}")
    return mean, variance


def multilevel(passes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the multilevel estimates of mean and variance from independent passes.

    Level l has moments of 4 * 2^l passes. The coarsest level gives their average over blocks of
    passes, every other one the average of what a block's moments are beyond those of its halves.
    Costs are shared out evenly, as is best where squared differences fall as one over the passes.

    Averaged over all orders of the passes, this is mean and unbiased variance of all of them
    together, which therefore have no larger squared error (Rao & Blackwell): levels gain over
    coarse blocks alone.

    Source: Pim & Pryer (2026), "Multi-level Monte Carlo dropout for efficient uncertainty
    quantification", with both halves of a block as its coarse level.

    Args:
        passes: (S, N, ...).

    Returns:
        Mean and variance over masks, each (N, ...).
    """
    n_levels = 1
    while _COARSEST * 2**n_levels <= len(passes) // (n_levels + 1):
        n_levels += 1
    share = len(passes) // n_levels
    mean = variance = torch.zeros_like(passes[0])
    for level in range(n_levels):
        size = _COARSEST * 2**level
        blocks = passes[level * share :][: share // size * size].unflatten(0, (-1, size))
        fine_mean, fine_variance = blocks.mean(dim=1), blocks.var(dim=1)
        if level:
            halves = blocks.unflatten(1, (2, -1))
            fine_mean = fine_mean - halves.mean(dim=2).mean(dim=1)
            fine_variance = fine_variance - halves.var(dim=2).mean(dim=1)
        mean, variance = mean + fine_mean.mean(dim=0), variance + fine_variance.mean(dim=0)
    return mean, variance.clamp_min(0)


def _rectified(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Moments of max(0, z) for normal z."""
    std = variance.clamp_min(1e-20).sqrt()
    score = mean / std
    density = torch.exp(-score.square() / 2) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(score)
    first = mean * below + std * density
    second = (mean.square() + variance) * below + mean * std * density
    return first, (second - first.square()).clamp_min(0)
