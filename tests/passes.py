"""Stochastic passes with everything that can be asked of them, and the record of their run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from mcdrop._engine.outputs import Select, Selection
from mcdrop._engine.plan import Memory, Plan
from mcdrop._engine.record import Masks, Run
from mcdrop._engine.settings import AskedStrategy, Settings
from mcdrop._tasks.predict import sample


def draw(
    model: nn.Module,
    inputs: Any,
    n: int,
    strategy: AskedStrategy = "auto",
    *,
    rates: Mapping[str, float] | None = None,
    masks: Masks = "independent",
    stochastic: Iterable[type[nn.Module] | str] = (),
    select: Select = None,
    seed: int = 0,
    **options: Any,
) -> tuple[Tensor, Run]:
    """Draw `n` passes, (n, N, ...), with the record of the run."""
    settings = Settings(
        "sample",
        model,
        rates or {},
        tuple(stochastic),
        masks,
        strategy=strategy,
        selection=Selection(select),
        seed=seed,
        **options,
    )
    return sample(settings, inputs, n)


def plans(memory: Memory) -> list[Plan]:
    """Return the plans that a wrapper remembers."""
    return [found for found in memory._found.values() if isinstance(found, Plan)]
