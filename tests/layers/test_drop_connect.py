"""DropConnect against enumeration of all weight masks and its closed-form variance."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from mcdrop.errors import RangeError, UnsupportedError
from mcdrop.layers import DropConnectLinear
from tests.layers.passes import assert_moments, draw

X = torch.tensor([[0.3, -1.2], [2.0, 0.5], [-0.9, 1.5]], dtype=torch.float64)


def test_moments_agree_with_all_weight_masks() -> None:
    torch.manual_seed(0)
    p = 0.3
    layer, last = DropConnectLinear(2, 3, p).double(), nn.Linear(3, 1).double()
    net = nn.Sequential(layer, nn.Tanh(), last)
    outputs, probabilities = [], []
    with torch.no_grad():
        for bits in itertools.product((0.0, 1.0), repeat=6):
            kept = torch.tensor(bits, dtype=torch.float64).view(3, 2)
            hidden = X @ (layer.weight * kept / (1 - p)).T + layer.bias
            outputs.append(last(torch.tanh(hidden)))
            probabilities.append(p ** (6 - sum(bits)) * (1 - p) ** sum(bits))
    weights = torch.tensor(probabilities, dtype=torch.float64).view(-1, 1, 1)
    mean = (weights * torch.stack(outputs)).sum(dim=0)
    variance = (weights * (torch.stack(outputs) - mean).square()).sum(dim=0)
    assert_moments(draw(net, X, 20_000), mean, variance)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_linear_layer_has_the_closed_form_variance(p: float) -> None:
    torch.manual_seed(1)
    layer = DropConnectLinear(2, 4, p).double()
    # Each weight is W / (1 - p) with probability 1 - p, else 0: variance W^2 p / (1 - p).
    variance = p / (1 - p) * X.square() @ layer.weight.detach().square().T
    passes = draw(layer, X, 20_000, seed=1)
    assert_moments(passes, layer.eval()(X).detach(), variance)


def test_rows_share_the_weights_of_a_pass_and_outputs_do_not() -> None:
    torch.manual_seed(2)
    p = 0.4
    layer = DropConnectLinear(2, 2, p, bias=False).double()
    centered = draw(layer, X, 40_000) - layer.eval()(X).detach()
    # Cov(y_nj, y_mk) = p / (1 - p) sum_i W_ji^2 x_ni x_mi if j = k, else 0.
    covariance = torch.einsum("snj,smk->njmk", centered, centered) / len(centered)
    own = p / (1 - p) * torch.einsum("ji,ni,mi->njm", layer.weight.detach().square(), X, X)
    exact = torch.zeros_like(covariance)
    for j in range(2):
        exact[:, j, :, j] = own[:, j]
    # A sample covariance has a standard error of at most about sqrt(2 / 40,000) variances.
    scale = exact.diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1).amax()
    assert (covariance - exact).abs().max() < 0.03 * scale


def test_train_mode_draws_a_new_mask_per_call_and_scales_survivors() -> None:
    layer = DropConnectLinear(50, 40, 0.25, bias=False)
    # On the identity the output is the transposed weight in force.
    first, second = layer(torch.eye(50)), layer(torch.eye(50))
    assert not torch.equal(first, second)
    kept = first != 0
    torch.testing.assert_close(first[kept], layer.weight.T[kept] / 0.75)
    assert abs(kept.double().mean().item() - 0.75) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    rows = layer(torch.ones(3, 50))
    torch.testing.assert_close(rows, rows[:1].expand(3, -1))


def test_gradient_reaches_kept_weights_only() -> None:
    layer = DropConnectLinear(6, 5, 0.5)
    x = torch.ones(1, 6)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert set(layer.weight.grad.unique().tolist()) == {0.0, 2.0}


def test_eval_mode_is_a_linear_layer_bit_for_bit() -> None:
    linear = nn.Linear(7, 3).eval()
    layer = DropConnectLinear.from_linear(linear, 0.5)
    x = torch.randn(4, 2, 7)
    assert torch.equal(layer(x), linear(x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_from_linear_shares_parameters_and_draws_nothing(bias: bool, training: bool) -> None:
    linear = nn.Linear(3, 2, bias=bias, dtype=torch.float64).train(training)
    before = torch.get_rng_state()
    layer = DropConnectLinear.from_linear(linear, 0.2)
    assert torch.equal(torch.get_rng_state(), before)
    assert layer.weight is linear.weight
    assert layer.bias is linear.bias
    assert layer.training is training
    assert layer.state_dict().keys() == linear.state_dict().keys()
    assert "in_features=3, out_features=2" in repr(layer)
    assert repr(layer).endswith("p=0.2)")


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan"), "0.5", None])
def test_bad_rates_are_refused(p: Any) -> None:
    with pytest.raises(RangeError, match=r"^DropConnectLinear: expected `p` to lie in \[0, 1\)"):
        DropConnectLinear(2, 2, p)


def test_other_layers_are_refused() -> None:
    conv: Any = nn.Conv1d(2, 2, 1)
    with pytest.raises(UnsupportedError, match=r"`linear` to be a torch\.nn\.Linear, but got Conv"):
        DropConnectLinear.from_linear(conv, 0.5)
