"""Which passes belong together, as matrices that are made once and stay on their device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mcdrop._masks.stratified import STRATUM

__all__ = ["GroupedPasses", "column", "indicators", "plus"]

# Passes of a chunk whose membership in groups is kept for the next prediction.
_SMALL = 1024


@dataclass(frozen=True)
class GroupedPasses:
    """Some successive passes; with `strata` given they are grouped by stratum.

    Attributes:
        first: Number of the first.
        count: How many.
        strata: Strata in all, None if unknown in advance, -1 for single passes.
    """

    first: int
    count: int
    strata: int | None

    def numbers(self, device: torch.device) -> Tensor:
        """Return the number of each pass or of its stratum; an incomplete last one joins others."""
        numbers = torch.arange(self.first, self.first + self.count, device=device)
        if self.strata == -1:
            return numbers
        numbers = numbers // STRATUM
        return numbers if self.strata is None else numbers.clamp_max(self.strata - 1)


def indicators(
    passes: GroupedPasses, n_groups: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return ones where a pass belongs to a group, (groups, passes); small ones are kept."""
    make = _kept_indicators if passes.count <= _SMALL else _kept_indicators.__wrapped__
    return make(passes, n_groups, dtype, device)


@lru_cache(maxsize=64)
def _kept_indicators(
    passes: GroupedPasses, n_groups: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # What is kept has to serve calls outside inference mode as well.
    with torch.inference_mode(mode=False):
        groups = torch.arange(n_groups, device=device).unsqueeze(1)
        return (passes.numbers(device) % n_groups == groups).to(dtype)


def column(counts: Tensor, like: Tensor) -> Tensor:
    """Return numbers known on the host as (G, 1, ...), beside a tensor (G, ...)."""
    if counts.device == like.device:
        column = counts.to(like.dtype)
    else:
        column = _uploaded(tuple(counts.tolist()), like.dtype, like.device)
    return column.view(-1, *(1 for _ in like.shape[1:]))


@lru_cache(maxsize=64)
def _uploaded(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.tensor(numbers, dtype=dtype).to(device)


def plus(total: Tensor, more: Tensor) -> Tensor:
    """Add to a sum, which begins as an empty tensor."""
    return total.add_(more) if total.numel() else more
