"""Whether two sets of passes have the same mean and variance, within Monte Carlo error."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

__all__ = ["Agreement", "Pool", "compared", "kurtosis_of"]

# Chance that any output of a right answer is called wrong.
_FALSE_ALARM = 1e-6


class Pool:
    """Mean and variance per output over several runs of S passes each."""

    def __init__(self) -> None:
        self.count = 0
        self._runs: list[tuple[Tensor, Tensor, int]] = []

    def add(self, mean: Tensor, variance: Tensor, n_samples: int) -> None:
        """Add one run; `variance` is the unbiased one."""
        self._runs.append((mean.double().cpu(), variance.double().cpu(), n_samples))
        self.count += n_samples

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and unbiased variance of all passes together."""
        mean = sum((m * n for m, _, n in self._runs), torch.zeros(())) / self.count
        squares = sum(
            (v * (n - 1) + n * (m - mean).square() for m, v, n in self._runs), torch.zeros(())
        )
        return mean, squares / (self.count - 1)


@dataclass(frozen=True)
class Agreement:
    """How far an answer is from the loop's.

    Attributes:
        largest_z: Largest deviation of a mean or a variance, in standard errors.
        limit_z: What the largest of so many deviations stays below when the answer is right.
        std_ratio: Median over outputs of the ratio of standard deviations.
    """

    largest_z: float
    limit_z: float
    std_ratio: float

    @property
    def holds(self) -> bool:
        """Whether the answers agree."""
        return self.largest_z <= self.limit_z


def compared(pool: Pool, reference: Pool, kurtosis: Tensor) -> Agreement:
    """Compare an answer with the loop's.

    Args:
        pool: The answer; it may hold fewer columns than the reference.
        reference: The loop's.
        kurtosis: Fourth standardized moment of the loop's passes, per output; the variance of n
            passes has a relative variance of (kurtosis - 1) / n.
    """
    mean, variance = pool.moments()
    true_mean, true_variance = reference.moments()
    if mean.shape != true_mean.shape:
        columns = mean.shape[1]
        true_mean, true_variance = true_mean[:, :columns], true_variance[:, :columns]
        kurtosis = kurtosis[:, :columns]
    rounding = 1e-5 * true_mean.abs().amax().item() + 1e-12
    error = (variance / pool.count + true_variance / reference.count).sqrt() + rounding
    z_mean = (mean - true_mean).abs() / error
    # The logarithm of a variance is closer to normal than the variance itself.
    floor = rounding**2
    log_ratio = ((variance + floor) / (true_variance + floor)).log()
    relative = (kurtosis.clamp_min(1.5) - 1) * (1 / pool.count + 1 / reference.count)
    z_variance = log_ratio.abs() / relative.sqrt()
    limit = NormalDist().inv_cdf(1 - _FALSE_ALARM / (4 * mean.numel()))
    return Agreement(
        largest_z=max(z_mean.max().item(), z_variance.max().item()),
        limit_z=limit,
        std_ratio=(log_ratio / 2).exp().median().item(),
    )


def kurtosis_of(samples: Tensor) -> Tensor:
    """Return the fourth standardized moment over passes; at least its average over outputs."""
    centered = samples.double().cpu() - samples.double().cpu().mean(dim=0)
    variance = centered.square().mean(dim=0).clamp_min(1e-24)
    kurtosis: Tensor = centered.pow(4).mean(dim=0) / variance.square()
    return torch.maximum(kurtosis, kurtosis.mean())
