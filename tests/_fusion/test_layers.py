"""Linear layers of dropped-out values: tiles, memory and order make no difference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcdrop._fusion import layers as dropped_layers
from mcdrop._fusion.layers import Layer, Scratch, pass_tiles, run_layers
from tests._fusion.chains import N_PASSES, inputs, layers_of, one_at_a_time

CPU = torch.device("cpu")


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


@pytest.mark.parametrize("n_passes", [1, 5, 21])
@pytest.mark.parametrize("per_pass", [1, 2**19, 2**30])
def test_tiles_of_passes_cover_each_once_and_hold_at_least_one(
    n_passes: int, per_pass: int
) -> None:
    found = list(pass_tiles(n_passes, per_pass, CPU))
    assert [number for part in found for number in range(n_passes)[part]] == list(range(n_passes))
    assert all(part.stop <= n_passes for part in found)
    assert all(part.stop - part.start <= max(1, 2**20 // per_pass) for part in found)


def test_a_device_runs_all_passes_at_once() -> None:
    assert list(pass_tiles(21, 2**30, torch.device("cuda"))) == [slice(0, 21)]


def test_functions_after_the_last_layer_are_applied_whether_or_not_they_write() -> None:
    plain = layers_of((11, 30, 3), 0.3, 9, shared=False)
    x = inputs(9, 11, same=True)
    expected = one_at_a_time(x, plain).tanh()
    for function in (torch.tanh, torch.tanh_):
        last = Layer(plain[-1].mask, 0.3, plain[-1].weight, plain[-1].bias, (function,))
        found = run_layers(x, [plain[0], last]).double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_survivors_grow_so_that_the_mean_stays() -> None:
    (layer,) = layers_of((1, 1), 0.25, 1, shared=False)
    assert layer.scale == 1 / 0.75
    out = run_layers(torch.ones(1, 1, 1), [layer])
    weight, bias = layer.weight, layer.bias
    assert bias is not None
    kept = layer.mask.keep().clone()
    torch.testing.assert_close(out, torch.where(kept, weight * layer.scale, 0) + bias)
    assert 0 < int(kept.sum()) < N_PASSES


def test_values_are_not_written_to() -> None:
    layers = layers_of((11, 30, 3), 0.3, 9, shared=False)
    x = inputs(9, 11, same=False)
    before: Tensor = x.clone()
    run_layers(x, layers)
    assert torch.equal(x, before)


def test_memory_is_used_again_and_grows() -> None:
    memory = Scratch(torch.empty(0, dtype=torch.float64))
    first = memory.empty(3, 4)
    assert first.dtype == torch.float64
    assert memory.empty(2, 5).data_ptr() == first.data_ptr()
    assert memory.empty(30, 40).shape == (30, 40)
