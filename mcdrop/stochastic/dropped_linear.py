"""A linear layer of dropped-out values, without the work that dropped units make superfluous.

All rows share the mask of a pass, so a dropped unit is a column of the input, and a row of the
transposed weight, that need not be multiplied. Results are laid out units before rows, so that the
next layer finds its units in rows that can be picked as they lie in memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["dropped_linear"]

# What a pass costs, in units of reading or writing one number; measured where two threads
# multiply 150 pairs per nanosecond (docs/performance.md). The choice may not depend on the clock:
# ways to multiply differ in their last digits, and the same seed is to give the same numbers.
_PAIRS_AT_ONCE = 15
_PAIRS_AT_ONCE_PICKED = 12
_PRODUCT = 2.5
_CALLS = 150_000


def dropped_linear(
    x: Tensor, keep: Callable[[], Tensor], rate: float, weight: Tensor, bias: Tensor | None
) -> Tensor | None:
    """Compute ``linear(x * keep / (1 - rate))`` for some passes, if there is a cheap way.

    Args:
        x: Values before dropout, (passes, rows, units), or (1, rows, units) for all passes.
        keep: Returns a tensor that is True where a pass keeps a unit, (passes, units).
        rate: Share of units that are dropped on average, in (0, 1).
        weight: (out, units).
        bias: (out,), or None.

    Returns:
        (passes, rows, out), or None where dropping first and multiplying then is cheapest.
    """
    way = _cheapest(len(x) == 1, x.shape[1], weight, rate)
    if way is None:
        return None
    return way(x.transpose(1, 2), keep(), 1.0 / (1.0 - rate), weight, bias).transpose(1, 2)


Way = Callable[[Tensor, Tensor, float, Tensor, "Tensor | None"], Tensor]


def _cheapest(same: bool, rows: int, weight: Tensor, rate: float) -> Way | None:
    """Choose by the sizes of the layer and the rate."""
    out, units = weight.shape
    pairs = rows * units * out
    whole = pairs / _PAIRS_AT_ONCE
    costs: list[tuple[float, Way | None]] = [
        (_PRODUCT * rows * units + whole, None),
        (_PRODUCT * out * units + whole, _by_weights),
    ]
    if weight.device.type == "cpu":
        # Elsewhere a launch for every pass costs more than what it saves.
        picked = pairs / _PAIRS_AT_ONCE_PICKED + units * (rows + out)
        costs.append(((1 - rate) * picked + _CALLS, _kept_alone))
        if same:
            costs.append((rate * picked + rows * out + _CALLS, _less_dropped))
    return min(costs, key=lambda each: each[0])[1]


def _by_weights(
    x: Tensor, keep: Tensor, scale: float, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Drop columns of the weight in place of units; the arguments have units before rows."""
    weights = weight * (keep.to(weight.dtype) * scale).unsqueeze(1)
    if len(x) == 1:
        out = (weights.flatten(0, 1) @ x[0]).unflatten(0, weights.shape[:2])
    else:
        out = torch.bmm(weights, x)
    return out if bias is None else out.add_(bias.unsqueeze(1))


def _kept_alone(
    x: Tensor, keep: Tensor, scale: float, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Multiply the kept units only, and the bias as if it were one more."""
    picked = _Picked(x, weight.t() * scale, spare=0 if bias is None else 1)
    if bias is not None:
        picked.values[0], picked.weights[0] = 1, bias
    result = picked.empty(len(keep))
    for number, flags in enumerate(keep.numpy()):
        weights, values = picked.units(number, flags)
        torch.mm(weights.t(), values, out=result[number])
    return result


def _less_dropped(
    x: Tensor, keep: Tensor, scale: float, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Multiply everything once for all passes, and take the dropped units off."""
    by_unit = weight.t() * scale
    whole = by_unit.t() @ x[0]
    if bias is not None:
        whole += bias.unsqueeze(1)
    picked = _Picked(x, by_unit)
    result = picked.empty(len(keep))
    for number, flags in enumerate(~keep.numpy()):
        weights, values = picked.units(number, flags)
        torch.addmm(whole, weights.t(), values, alpha=-1, out=result[number])
    return result


class _Picked:
    """Some units of every pass and their weights, picked into the same memory each time.

    Args:
        x: Values, (passes or 1, units, rows).
        by_unit: Weights, (units, out).
        spare: Places to leave free before what is picked.

    Attributes:
        values: Memory for values, (spare + units, rows).
        weights: Memory for weights, (spare + units, out).
    """

    def __init__(self, x: Tensor, by_unit: Tensor, spare: int = 0) -> None:
        self._x, self._by_unit, self._spare = x, by_unit.contiguous(), spare
        places = spare + len(by_unit)
        self.values = x.new_empty((places, x.shape[2]))
        self.weights = x.new_empty((places, by_unit.shape[1]))

    def empty(self, n_passes: int) -> Tensor:
        """Return memory for the results, (passes, out, rows)."""
        return self._x.new_empty((n_passes, self._by_unit.shape[1], self._x.shape[2]))

    def units(self, number: int, flags: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Return weights and values of some units of one pass, after the spare places."""
        index = torch.from_numpy(np.flatnonzero(flags))
        end = self._spare + len(index)
        torch.index_select(self._by_unit, 0, index, out=self.weights[self._spare : end])
        values = self._x[number % len(self._x)]
        torch.index_select(values, 0, index, out=self.values[self._spare : end])
        return self.weights[:end], self.values[:end]
