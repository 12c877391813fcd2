"""Dropout followed by linear layers, for so many passes at a time that they stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop._masks.mask import DropoutMask

__all__ = ["Layer", "Scratch", "pass_tiles", "run_layers"]

# Elements of the largest tensor of passes that run together on the CPU.
_TILE = 2**20


@dataclass(frozen=True)
class Layer:
    """Dropout, a linear layer, and elementwise functions after it.

    Attributes:
        mask: Which units are kept.
        rate: Rate that the mask realizes, in (0, 1).
        weight: (out, units).
        bias: (out,), or None.
        then: Functions of the result, in order; they may write to it.
    """

    mask: DropoutMask
    rate: float
    weight: Tensor
    bias: Tensor | None
    then: tuple[Callable[[Tensor], Tensor], ...] = ()

    @property
    def scale(self) -> float:
        """Factor of the kept units."""
        return 1.0 / (1.0 - self.rate)


class Scratch:
    """Scratch that is used again: new pages from the system cost more than arithmetic in cache.

    Args:
        like: A tensor of its type and on its device.
    """

    def __init__(self, like: Tensor) -> None:
        self._buffer = like.new_empty(0)

    def empty(self, *shape: int) -> Tensor:
        """Return uninitialized memory, the same at each call."""
        numel = math.prod(shape)
        if self._buffer.numel() < numel:
            self._buffer = self._buffer.new_empty(numel)
        return self._buffer[:numel].view(shape)


def pass_tiles(n_passes: int, per_pass: int, device: torch.device) -> Iterator[slice]:
    """Yield slices of passes that fit the cache; on a device, all passes at once.

    Args:
        n_passes: Number of passes.
        per_pass: Elements of the largest tensor of one pass.
        device: Where they run.
    """
    step = max(1, _TILE // per_pass) if device.type == "cpu" else n_passes
    return (slice(first, min(first + step, n_passes)) for first in range(0, n_passes, step))


def run_layers(x: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Run layers for some passes.

    Args:
        x: Input of the first dropout, (passes, ..., units), or (1, ..., units) if it is the same
            for all passes.
        layers: The layers.

    Returns:
        (passes, ..., out).
    """
    n_passes, before = layers[0].mask.span.count, x.shape[1:-1]
    rows, last = math.prod(before), layers[-1]
    per_pass = rows * max(max(layer.weight.shape) for layer in layers)
    out = x.new_empty((n_passes, rows, last.weight.shape[0]))
    memories = [Scratch(x) for _ in layers]
    for passes in pass_tiles(n_passes, per_pass, x.device):
        values = x if x.shape[0] == 1 else x[passes]
        for layer, memory in zip(layers, memories, strict=True):
            dropped = layer.mask.part(passes).times(values, layer.scale).flatten(0, -2)
            shape = dropped.shape[0], layer.weight.shape[0]
            place = out[passes].view(shape) if layer is last else memory.empty(*shape)
            # One kernel for both would copy the bias to every row before it multiplies.
            products = torch.mm(dropped, layer.weight.t(), out=place)
            if layer.bias is not None:
                products += layer.bias
            for function in layer.then:
                products = function(products)
            values = products.view(-1, *before, shape[1])
        if last.then:
            out[passes] = values.flatten(1, -2)
    return out.view(n_passes, *before, -1)
