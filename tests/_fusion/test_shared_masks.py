"""Layers run with what is dropped left out: the numbers of dropping first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop._fusion import layers as dropped_layers
from mcdrop._fusion import shared_masks as shared_layers
from mcdrop._fusion.layers import Layer
from mcdrop._fusion.shared_masks import run_shared_layers
from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.source import MaskSource, Span
from tests._fusion.chains import N_PASSES, SHARED, inputs, layers_of, one_at_a_time


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
