"""How one prediction is to run, as the caller asked for it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mcdrop._engine.outputs import Select
from mcdrop._engine.record import Masks, Strategy
from mcdrop._live.sites import DropoutSite
from mcdrop.checks import require_count
from mcdrop.errors import RangeError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings of one prediction.

    Attributes:
        function: Public function to name in errors.
        model: The caller's model, only read.
        rates: Dropout rates by site name; the key "" overrides all.
        stochastic: Module types and names whose own `training` flag gates their randomness.
        masks: "independent" (each row its own) or "shared" (all rows of all batches the same).
        stratified: Whether every 16 passes share the drops of a unit out evenly.
        select: Which tensor of the output is the prediction.
        seed: Seed of the masks; None draws one from the operating system.
        batch_size: Rows per forward call, or None.
        sample_chunk: Passes per vectorized call, or None to choose.
        device: Where to run; None for where the model is.
        dtype: Floating point type to run in; None for the model's.
        progress: Whether to show a progress bar on standard error.
        strategy: Force a strategy; None chooses.
        exact_last: Integrate the last dropout in closed form; chunks are then (s, n, ..., 2).
        memory: What earlier predictions of the same wrapper found out about model and inputs.
    """

    function: str
    model: nn.Module
    rates: Mapping[str, float]
    stochastic: tuple[type[nn.Module] | str, ...] = ()
    masks: Masks = "independent"
    stratified: bool = True
    select: Select = None
    seed: int | None = None
    batch_size: int | None = None
    sample_chunk: int | None = None
    device: str | torch.device | None = None
    dtype: torch.dtype | None = None
    progress: bool = False
    strategy: Strategy | None = None
    exact_last: bool = False
    memory: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for argument, least in (("batch_size", 1), ("sample_chunk", 1), ("seed", 0)):
            value = getattr(self, argument)
            if value is not None:
                require_count(self.function, argument, value, least)

    def signature(self) -> Hashable:
        """Return what a plan depends on besides the inputs: the model's structure and options."""
        modules = tuple((path, id(type(m))) for path, m in self.model.named_modules())
        select = _identity(self.select)
        rates = tuple(sorted(self.rates.items()))
        device = self.place()
        place = (str(device), self.dtype, torch.is_autocast_enabled(device.type))
        return modules, select, rates, self.stochastic, self.masks, self.exact_last, place

    def check_rate_names(self, sites: Sequence[DropoutSite]) -> None:
        """Refuse rates for sites that do not exist."""
        known = {site.name for site in sites} | {site.name.split("#")[0] for site in sites}
        unknown = sorted(set(self.rates) - known - {""})
        if unknown:
            raise RangeError.of(
                self.function,
                "p",
                f"name dropout sites among {sorted(known)}",
                unknown,
                "Take the names from mc.sites(x)",
            )

    def place(self) -> torch.device:
        """Return the device to run on: the one asked for, or the model's."""
        if self.device is not None:
            return torch.device(self.device)
        tensors = (*self.model.parameters(), *self.model.buffers())
        return tensors[0].device if tensors else torch.device("cpu")


def _identity(select: Select) -> Hashable:
    """Tell selections apart, and know again a lambda that is written in a loop."""
    code = getattr(select, "__code__", None)
    if code is None:
        return select
    cells = getattr(select, "__closure__", None) or ()
    values = [
        *(cell.cell_contents for cell in cells),
        *(getattr(select, "__defaults__", None) or ()),
    ]
    return code, tuple(value if isinstance(value, int | str) else id(value) for value in values)
