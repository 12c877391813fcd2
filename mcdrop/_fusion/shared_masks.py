"""Dropout followed by linear layers where all rows share a mask: dropped units cost nothing.

A dropped unit is a column of the input, and a column of the weight, that need not be multiplied;
the layer before need not compute it. Inside, tensors are (units, rows), so that a unit is
contiguous in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop._fusion.layers import Layer, Scratch, pass_tiles, run_layers

__all__ = ["run_shared_layers"]

# Cost model of one pass, in units of reading or writing one number, for two threads that multiply
# 150 pairs per nanosecond (docs/performance.md). It uses sizes, not timings: the ways to multiply
# differ in their last digits, and the same seed has to give the same numbers.
_PAIRS_AT_ONCE = 15
_PAIRS_AT_ONCE_PICKED = 12
_PRODUCT = 2.5
_PICK = 3.0
_CALLS = 100_000


@dataclass(frozen=True)
class _Shared:
    """A layer with the mask that all rows share.

    Attributes:
        layer: The layer.
        keep: True where a pass keeps a unit, (passes, units).
    """

    layer: Layer
    keep: Tensor

    def by_unit(self) -> Tensor:
        """Return the scaled weights, (units, out)."""
        return (self.layer.weight.t() * self.layer.scale).contiguous()

    def finished(self, products: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Add the bias and apply the functions.

        Args:
            products: (..., out, rows), overwritten.
            chosen: Indices of the outputs, if these are only some.
        """
        bias = self.layer.bias
        if bias is not None:
            products += (bias if chosen is None else bias[chosen]).unsqueeze(1)
        for function in self.layer.then:
            products = function(products)
        return products


def run_shared_layers(x: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Multiply layers for some passes in the way that costs least by the cost model.

    Args:
        x: Input of the first dropout, (passes, ..., units), or (1, ..., units) if it is the same
            for all passes.
        layers: The layers.

    Returns:
        (passes, ..., out).
    """
    same, rows = len(x) == 1, math.prod(x.shape[1:-1])
    on_cpu = x.device.type == "cpu"
    ways = [_way(layer, rows, same=same and layer is layers[0], picks=on_cpu) for layer in layers]
    if all(way is _drop_values for _, way in ways):
        return run_layers(x, layers)
    values = x.flatten(1, -2).transpose(1, 2)
    out = x.new_empty((layers[0].mask.span.count, rows, len(layers[-1].weight)))
    shared = [_Shared(layer, layer.mask.by_unit()) for layer in layers]
    together = sum(cost for cost, _ in ways)
    if on_cpu and len(layers) > 1 and _cost_one_by_one(layers, rows, same=same) < together:
        _one_by_one(values, shared, out)
        return out.unflatten(1, x.shape[1:-1])
    runs = [way(layer) for (_, way), layer in zip(ways, shared, strict=True)]
    per_pass = max(max(layer.weight.shape) for layer in layers) * rows
    for passes in pass_tiles(len(out), per_pass, x.device):
        current = values if same else values[passes]
        for each, run in zip(shared, runs, strict=True):
            current = each.finished(run(current, each.keep[passes]))
        out[passes] = current.transpose(1, 2)
    return out.unflatten(1, x.shape[1:-1])


# From values (passes or 1, units, rows) and masks (passes, units) to products (passes, out, rows).
Multiply = Callable[[Tensor, Tensor], Tensor]


def _way(
    layer: Layer, rows: int, *, same: bool, picks: bool
) -> tuple[float, Callable[[_Shared], Multiply]]:
    """Choose how to multiply one layer, by its sizes and rate; return the cost and the way.

    Args:
        layer: The layer.
        rows: Number of rows.
        same: Whether values are the same for all passes.
        picks: Whether units may be picked, one call per pass; not on a device.
    """
    out, units = layer.weight.shape
    pairs = rows * units * out
    whole = pairs / _PAIRS_AT_ONCE
    ways: list[tuple[float, Callable[[_Shared], Multiply]]] = [
        (_PRODUCT * rows * units + whole, _drop_values),
        (_PRODUCT * out * units + whole, _drop_weights),
    ]
    if picks:
        picked = pairs / _PAIRS_AT_ONCE_PICKED + units * (rows + out)
        ways.append(((1 - layer.rate) * picked + _CALLS, _kept_alone))
        if same:
            ways.append((layer.rate * picked + rows * out + _CALLS, _less_dropped))
    return min(ways, key=lambda each: each[0])


def _drop_values(shared: _Shared) -> Multiply:
    """Zero the dropped units and multiply everything."""
    weight, scale = shared.layer.weight, shared.layer.scale
    dropped, products = Scratch(weight), Scratch(weight)

    def run(x: Tensor, keep: Tensor) -> Tensor:
        n_passes, rows, (out, units) = len(keep), x.shape[2], weight.shape
        factors = keep.to(x.dtype).mul_(scale).unsqueeze(2)
        some = torch.mul(x, factors, out=dropped.empty(n_passes, units, rows))
        each = weight.expand(n_passes, out, units)
        return torch.bmm(each, some, out=products.empty(n_passes, out, rows))

    return run


def _drop_weights(shared: _Shared) -> Multiply:
    """Zero columns of the weight instead: cheaper where there are fewer outputs than rows."""
    weight, scale = shared.layer.weight, shared.layer.scale
    products = Scratch(weight)

    def run(x: Tensor, keep: Tensor) -> Tensor:
        n_passes, rows, out = len(keep), x.shape[2], len(weight)
        weights = weight * keep.to(weight.dtype).mul_(scale).unsqueeze(1)
        result = products.empty(n_passes, out, rows)
        if len(x) > 1:
            return torch.bmm(weights, x, out=result)
        torch.mm(weights.flatten(0, 1), x[0], out=result.flatten(0, 1))
        return result

    return run


def _kept_alone(shared: _Shared) -> Multiply:
    """Multiply the kept units only, pass by pass."""
    by_unit = shared.by_unit()
    products = Scratch(by_unit)

    def run(x: Tensor, keep: Tensor) -> Tensor:
        result = products.empty(len(keep), by_unit.shape[1], x.shape[2])
        for number, flags in enumerate(keep.numpy()):
            chosen = _numbers(flags)
            values = x[number % len(x)].index_select(0, chosen)
            torch.mm(by_unit.index_select(0, chosen).t(), values, out=result[number])
        return result

    return run


def _less_dropped(shared: _Shared) -> Multiply:
    """Multiply everything once for all passes, and subtract the dropped units pass by pass."""
    by_unit = shared.by_unit()
    products = Scratch(by_unit)
    wholes: list[Tensor] = []

    def run(x: Tensor, keep: Tensor) -> Tensor:
        if not wholes:
            wholes.append(by_unit.t() @ x[0])
        result = products.empty(len(keep), by_unit.shape[1], x.shape[2])
        for number, flags in enumerate(~keep.numpy()):
            dropped = _numbers(flags)
            weights = by_unit.index_select(0, dropped).t()
            values = x[0].index_select(0, dropped)
            torch.addmm(wholes[0], weights, values, alpha=-1, out=result[number])
        return result

    return run


def _numbers(flags: npt.NDArray[np.bool_]) -> Tensor:
    """Return the indices of the flagged units."""
    return torch.from_numpy(np.flatnonzero(flags))


def _cost_one_by_one(layers: Sequence[Layer], rows: int, *, same: bool) -> float:
    """Return the cost of one pass of `_one_by_one`."""
    cost = 0.0
    for number, layer in enumerate(layers):
        out, units = layer.weight.shape
        following = layers[number + 1].rate if number + 1 < len(layers) else 0.0
        share = 1 - layer.rate
        if same and number == 0:
            share = min(layer.rate, share)
        picked = share * units * (1 - following) * out
        cost += rows * picked / _PAIRS_AT_ONCE_PICKED + _PICK * picked + _CALLS
        cost += rows * (share * units + (1 - following) * out)
    return cost


def _one_by_one(x: Tensor, layers: Sequence[_Shared], out: Tensor) -> None:
    """Multiply pass by pass, and compute only the outputs that the next layer keeps.

    Args:
        x: Values, (passes or 1, units, rows).
        layers: The layers.
        out: Receives the results, (passes, rows, out).
    """
    first = layers[0]
    by_units = [layer.by_unit() for layer in layers]
    less_dropped = len(x) == 1 and first.layer.rate < 0.5
    whole = by_units[0].t() @ x[0] if less_dropped else x[0]
    keeps = [layer.keep.numpy() for layer in layers]
    for number in range(len(out)):
        kept = [_numbers(keep[number]) for keep in keeps]
        values = x[number % len(x)]
        for place, (layer, by_unit) in enumerate(zip(layers, by_units, strict=True)):
            chosen = kept[place + 1] if place + 1 < len(layers) else None
            if place == 0 and less_dropped:
                dropped = _numbers(~keeps[0][number])
                weights = _picked(by_unit, dropped, chosen)
                start = whole if chosen is None else whole.index_select(0, chosen)
                products = torch.addmm(
                    start, weights.t(), values.index_select(0, dropped), alpha=-1
                )
            else:
                some = values.index_select(0, kept[0]) if place == 0 else values
                products = _picked(by_unit, kept[place], chosen).t() @ some
            values = layer.finished(products, chosen)
        out[number] = values.t()


def _picked(by_unit: Tensor, units: Tensor, outputs: Tensor | None) -> Tensor:
    """Return the weights of some units and some outputs."""
    weights = by_unit.index_select(0, units)
    return weights if outputs is None else weights.index_select(1, outputs)
