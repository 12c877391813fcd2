"""Results of large outputs, tile by tile: what is computed for every group then stays in the cache.

Sums over up to 16 groups of passes take 16 times the memory of an output, and so does everything
that is derived from them for a jackknife.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

from mcdrop.prediction.base import Prediction

__all__ = ["in_tiles", "is_large", "joined"]

PredictionT = TypeVar("PredictionT", bound=Prediction)

# Numbers of an output whose groups, sixteen times as many, fit the cache of a core.
_TILE = 2**14


def is_large(output: Tensor, n_passes: int = 1) -> bool:
    """Tell whether the result for an output, (n, ...), is computed in tiles.

    Args:
        output: Something of its shape, or several passes, (s, n, ...).
        n_passes: Their number.
    """
    return output.numel() > _TILE * n_passes and output.device.type == "cpu"


def in_tiles(
    output: Tensor, dim: int, result: Callable[[slice, slice], PredictionT]
) -> PredictionT:
    """Put the results for tiles of an output together.

    Args:
        output: Has the shape of the output, (n, ...).
        dim: The first dimension of the places of a row, all of which are independent: 1, or 2
            where classes come before them.
        result: Returns the prediction for some rows and some entries of that dimension.
    """
    shape = output.shape
    n_places = shape[dim] if len(shape) > dim else 1
    per_place = max(1, prod(shape[1:]) // n_places)
    beyond = len(shape) - dim

    def some_rows(rows: slice, step: int) -> PredictionT:
        parts = [result(rows, places) for places in _slices(n_places, step)]
        if len(parts) == 1:
            return parts[0]

        def all_places(name: str, value: Tensor) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts], dim=value.ndim - beyond)

        return parts[0]._map(all_places)

    n_rows = max(1, _TILE // (n_places * per_place))
    step = n_places if n_rows > 1 else max(1, _TILE // per_place)
    return joined([some_rows(rows, step) for rows in _slices(shape[0], n_rows)])


def joined(parts: Sequence[PredictionT]) -> PredictionT:
    """Concatenate the predictions of successive rows."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]

    def all_rows(name: str, _: Tensor) -> Tensor:
        dim = 1 if name in first._passes_first else 0
        return torch.cat([getattr(part, name) for part in parts], dim=dim)

    return first._map(all_rows)


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, length)) for first in range(0, length, step))
