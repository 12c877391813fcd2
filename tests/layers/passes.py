"""Passes of a model in a chosen strategy, and how close their moments have to be."""

from __future__ import annotations

from torch import Tensor, nn

from mcdrop._engine.record import Strategy
from tests import passes


def draw(
    model: nn.Module, x: Tensor, n: int, strategy: Strategy = "vectorized", seed: int = 0
) -> Tensor:
    """Draw `n` passes with the given strategy, (n, N, ...)."""
    found, run = passes.draw(model, x, n, strategy, seed=seed)
    assert run.strategy == strategy
    return found


def assert_moments(samples: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Mean and variance over passes agree with the exact ones within four standard errors."""
    n = len(samples)
    samples = samples.double()
    error = (samples.mean(dim=0) - mean).abs()
    assert bool((error <= 4 * (variance / n).sqrt() + 1e-6).all())
    # Var(s^2) = (m4 - s^4) / n with the fourth moment of the samples; masks realize the rate to
    # 2^-17 only, hence the relative term.
    fourth = (samples - mean).pow(4).mean(dim=0)
    spread = ((fourth - variance.square()).clamp_min(0) / n).sqrt()
    gap = (samples.var(dim=0) - variance).abs()
    assert bool((gap <= 4 * spread + 1e-3 * variance + 1e-6).all())
