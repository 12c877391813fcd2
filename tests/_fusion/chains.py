"""Chains of dropout and linear layers, and what one pass at a time makes of them."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._fusion.layers import Layer
from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.rows import RowDim
from mcdrop._masks.source import MaskSource, Span

N_PASSES = 21
SHARED = (RowDim(0, 1),)


def layers_of(
    sizes: tuple[int, ...], p: float, rows: int, *, shared: bool, bias: bool = True
) -> list[Layer]:
    generator = torch.Generator().manual_seed(1)
    source = MaskSource(0, torch.device("cpu"), stratified=True)
    layers = []
    for site, (units, out) in enumerate(pairwise(sizes)):
        mask = DropoutMask(
            source, p, (rows, units), site, Span(0, 5, N_PASSES), True, SHARED if shared else None
        )
        weight = torch.randn(out, units, generator=generator) / units**0.5
        offset = torch.randn(out, generator=generator) if bias else None
        last = site + 2 == len(sizes)
        layers.append(Layer(mask, p, weight, offset, () if last else (torch.relu_,)))
    return layers


def one_at_a_time(x: Tensor, layers: list[Layer]) -> Tensor:
    passes = []
    for number in range(N_PASSES):
        values = x[number % len(x)].double()
        for layer in layers:
            keep = layer.mask.part(slice(number, number + 1)).keep()[0]
            bias = None if layer.bias is None else layer.bias.double()
            values = F.linear(values * keep / (1 - layer.rate), layer.weight.double(), bias)
            for function in layer.then:
                values = function(values)
        passes.append(values)
    return torch.stack(passes)


def inputs(rows: int, units: int, *, same: bool) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(1 if same else N_PASSES, rows, units, generator=generator)
