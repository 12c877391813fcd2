"""Passes of a model in a chosen strategy, and how close their moments have to be."""

from __future__ import annotations

from torch import Tensor, nn

from mcdrop._engine.record import Strategy
from mcdrop._engine.schedule import Sampler
from mcdrop._tasks.accumulate import SampleAccumulator, joined_samples


def draw(
    model: nn.Module, x: Tensor, n: int, strategy: Strategy = "vectorized", seed: int = 0
) -> Tensor:
    """Draw `n` passes with the given strategy, (n, N, ...)."""
    sampler = Sampler("sample", model, {}, strategy=strategy, seed=seed)
    found, run = sampler.run(x, n, lambda row: SampleAccumulator("sample", row), joined_samples)
    assert run.strategy == strategy
    return found


def assert_moments(passes: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Mean and variance over passes agree with the exact ones within four standard errors."""
    n = len(passes)
    passes = passes.double()
    error = (passes.mean(dim=0) - mean).abs()
    assert bool((error <= 4 * (variance / n).sqrt() + 1e-6).all())
    # Var(s^2) = (m4 - s^4) / n with the fourth moment of the passes; masks realize the rate to
    # 2^-17 only, hence the relative term.
    fourth = (passes - mean).pow(4).mean(dim=0)
    spread = ((fourth - variance.square()).clamp_min(0) / n).sqrt()
    gap = (passes.var(dim=0) - variance).abs()
    assert bool((gap <= 4 * spread + 1e-3 * variance + 1e-6).all())
