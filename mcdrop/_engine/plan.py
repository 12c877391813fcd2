"""What one look at the model decided, and what a wrapper remembers of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch

from mcdrop._engine.record import Strategy
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.rows import RowDim, RowLayout
from mcdrop._twin.twin import Spares

__all__ = ["Memory", "Plan"]

_REMEMBERED = 64


@dataclass(frozen=True)
class Plan:
    """How the passes over batches of one kind run.

    Attributes:
        strategy: Whether the passes of a chunk run in one call, or one at a time.
        reason: Why, in one sentence.
        sites: The dropout calls of one pass.
        dtype: Type of the output.
        output_numel: Elements of the output of one pass.
        output_ndim: Its dimensions.
        widest: Elements of the largest tensor of one pass that is held in memory after a dropout.
        largest: Elements of the largest tensor of one pass that is computed after a dropout, and so
            once for every pass of a chunk.
        work_before: Floating point operations before the first dropout, done once per chunk.
        work_per_pass: Floating point operations after it.
        rows: The row dimensions, where all rows share one mask.
        defers: Whether dropout may be deferred until a linear layer reads its result.
        last_site: The dropout call that is integrated in closed form or redrawn, or None.
        redraws: How many masks of that call every pass is given; 0 for the closed form.
        linear: The dimension that counts rows, for every site, where the linearized network is the
            control variate; empty where it is not.
        control: Why the linearized network is no control variate; empty if it is.
        seeds_globals: Whether the model uses the global generators of torch, NumPy or Python, so
            that they are seeded for each pass.
        chunk: Passes per call.
    """

    strategy: Strategy = "sequential"
    reason: str = ""
    sites: tuple[DropoutSite, ...] = ()
    dtype: torch.dtype = torch.float32
    output_numel: int = 1
    output_ndim: int = 1
    widest: int = 1
    largest: int = 1
    work_before: int = 0
    work_per_pass: int = 0
    rows: RowLayout | None = None
    defers: bool = False
    last_site: int | None = None
    redraws: int = 0
    linear: tuple[RowDim | None, ...] = ()
    control: str = ""
    seeds_globals: bool = False
    chunk: int = 1

    @property
    def integrated(self) -> tuple[int, ...]:
        """The dropout call that is computed in closed form, so that no mask of it is drawn."""
        return () if self.last_site is None or self.redraws else (self.last_site,)

    def row_dim(self, site: int) -> RowDim | None:
        """Return the dimension of a site's mask that counts rows, where it is known."""
        return self.linear[site] if site < len(self.linear) else None


class Memory:
    """What earlier predictions of a wrapper found out, the least recently used forgotten first.

    Attributes:
        spares: Copies of the model that no prediction uses now.
    """

    def __init__(self) -> None:
        self.spares = Spares()
        self._found: OrderedDict[Hashable, Any] = OrderedDict()
        self._units_drawn = 0

    def __len__(self) -> int:
        return len(self._found)

    def __getstate__(self) -> dict[str, Any]:
        """Remember nothing in a copy or in another process: keys hold identities of objects."""
        return {"_found": OrderedDict(), "_units_drawn": 0, "spares": Spares()}

    def recall(self, key: Hashable) -> Any:
        """Return what was found under a key, or None."""
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def keep(self, key: Hashable, found: Any) -> None:
        """Remember something, and forget what has not been asked for longest."""
        self._found[key] = found
        self._found.move_to_end(key)
        while len(self._found) > _REMEMBERED:
            self._found.popitem(last=False)

    def count_units(self, units: int) -> int:
        """Add units of masks that are to be drawn; return how many there have been in all."""
        self._units_drawn += units
        return self._units_drawn
