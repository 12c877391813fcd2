"""One draw from the posterior as a function: the same masks in every call, for every row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcdrop._engine.batch import Batch
from mcdrop._engine.misfit import naming_misfits
from mcdrop._engine.passes import Passes
from mcdrop._engine.planner import Planner
from mcdrop._engine.settings import Settings
from mcdrop._masks.source import Span
from mcdrop.errors import ShapeError, UnsupportedError

__all__ = ["PosteriorFunction"]


@dataclass(frozen=True, eq=False)
class PosteriorFunction:
    """A deterministic, differentiable function: one pass with its masks held fixed.

    It shares the weights of the model and follows them. Made by `MCDropout.function`.

    Attributes:
        settings: Settings with shared masks and a seed.
        index: Number of the pass.
        row_ndim: Dimensions of one row.
    """

    settings: Settings
    index: int
    row_ndim: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate the function; gradients flow to `x` and to the weights.

        Args:
            x: Rows in any batch shape, (..., *row), such as (N, d) or (b, q, d).

        Returns:
            One output per row, in the same batch shape.

        Raises:
            ShapeError: If `x` has fewer dimensions than a row, no rows, or the model does not
                return one output per row.
        """
        settings = self.settings
        batch_shape, rows = self._rows(x)
        batch = Batch((rows,), {}, len(rows))
        # Buffers of a pass are needed until gradients have flowed, so every call has its own.
        passes = Passes(settings, int(settings.seed or 0), settings.place())
        with torch.no_grad(), naming_misfits(settings, passes, batch):
            plan = Planner(settings, passes).plan(batch, 2, rows_split=False)
        output = passes.one(plan, batch, Span(0, self.index))
        settings.check_sites(passes.seen.sites)
        found = settings.selection.pick(settings.function, output)
        if found.shape[:1] != rows.shape[:1]:
            raise ShapeError.of(
                settings.function,
                "model",
                f"return {len(rows)} rows for {len(rows)} input rows",
                f"shape {tuple(found.shape)}",
                "Say how many dimensions a row has: row_ndim=",
            )
        return found.reshape(*batch_shape, *found.shape[1:])

    def _rows(self, x: Any) -> tuple[tuple[int, ...], Tensor]:
        """Return the batch shape, and the rows one below the other."""
        function = self.settings.function
        if not isinstance(x, Tensor):
            raise UnsupportedError.of(
                function, "x", "be a tensor", type(x).__name__, "Convert it: torch.as_tensor(x)"
            )
        n_batch = x.ndim - self.row_ndim
        if n_batch < 0 or x.numel() == 0:
            raise ShapeError.of(
                function,
                "x",
                f"have rows of {self.row_ndim} dimension(s)",
                f"shape {tuple(x.shape)}",
                "Put batch dimensions first, then those of a row",
            )
        shape = tuple(x.shape[:n_batch])
        return shape, x.reshape(math.prod(shape), *x.shape[n_batch:])
