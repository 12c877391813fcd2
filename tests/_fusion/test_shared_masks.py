"""Layers run in tiles, and with what is dropped left out: the numbers of dropping first."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._fusion import layers as dropped_layers
from mcdrop._fusion import shared_masks as shared_layers
from mcdrop._fusion.layers import Layer, run_layers
from mcdrop._fusion.shared_masks import run_shared_layers
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


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tile", [1, 2000, 2**20])
def test_tiles_make_no_difference(
    same: bool, shared: bool, bias: bool, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropped_layers, "_TILE", tile)
    layers = layers_of((11, 30, 17, 2), 0.3, 9, shared=shared, bias=bias)
    x = inputs(9, 11, same=same)
    expected = one_at_a_time(x, layers)
    torch.testing.assert_close(run_layers(x, layers).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "way", ["_drop_values", "_drop_weights", "_kept_alone", "_less_dropped", "_one_by_one"]
)
def test_every_way_gives_the_numbers_of_dropping_first(
    same: bool, p: float, bias: bool, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (11, 4) if way == "_less_dropped" else (11, 30, 17, 2)
    if way == "_less_dropped" and not same:
        pytest.skip("needs values that are the same for all passes")
    monkeypatch.setattr(dropped_layers, "_TILE", 2000)
    made = getattr(shared_layers, way)
    cost = 0.0 if way == "_one_by_one" else 1e9
    monkeypatch.setattr(shared_layers, "_cost_one_by_one", lambda *_, **__: cost)
    if way != "_one_by_one":
        monkeypatch.setattr(shared_layers, "_way", lambda *_, **__: (1.0, made))
    else:
        monkeypatch.setattr(
            shared_layers, "_way", lambda *_, **__: (1.0, shared_layers._kept_alone)
        )
    layers = layers_of(sizes, p, 9, shared=True, bias=bias)
    x = inputs(9, 11, same=same)
    found = run_shared_layers(x, layers).double()
    torch.testing.assert_close(found, one_at_a_time(x, layers), rtol=1e-4, atol=1e-4)


def test_a_pass_that_drops_everything_leaves_the_bias() -> None:
    layers = layers_of((3, 400, 2), 0.9, 5, shared=True)
    x = inputs(5, 3, same=True)
    keep = layers[0].mask.by_unit()
    nothing = np.flatnonzero(~keep.any(dim=1).numpy())
    assert len(nothing) > 0
    found = run_shared_layers(x, layers).double()
    torch.testing.assert_close(found, one_at_a_time(x, layers), rtol=1e-4, atol=1e-4)


def test_sizes_and_rates_choose_the_way() -> None:
    def chosen(units: int, out: int, rows: int, p: float, *, same: bool) -> str:
        layer = layers_of((units, out), p, rows, shared=True)[0]
        return shared_layers._way(layer, rows, same=same, picks=True)[1].__name__

    assert chosen(50, 1, 51, 0.05, same=False) == "_drop_weights"
    assert chosen(50, 100, 4, 0.05, same=False) == "_drop_values"
    assert chosen(512, 512, 256, 0.1, same=True) == "_less_dropped"
    assert chosen(512, 512, 256, 0.1, same=False) == "_drop_values"
    assert chosen(512, 512, 256, 0.5, same=False) == "_kept_alone"
    on_device = layers_of((512, 512), 0.5, 256, shared=True)[0]
    _, way = shared_layers._way(on_device, 256, same=False, picks=False)
    assert way.__name__ == "_drop_values"


def test_rows_may_have_several_dimensions() -> None:
    source = MaskSource(0, torch.device("cpu"))
    mask = DropoutMask(source, 0.5, (4, 1, 6), 0, Span(0, 0, N_PASSES), True, SHARED)
    layer = Layer(mask, 0.5, torch.randn(2, 6), None)
    x = torch.randn(N_PASSES, 4, 1, 6)
    assert mask.is_one_per_unit
    found = run_shared_layers(x, [layer]).double()
    assert found.shape == (N_PASSES, 4, 1, 2)
    torch.testing.assert_close(found, one_at_a_time(x, [layer]), rtol=1e-5, atol=1e-5)
