"""Members are separate perceptrons, and their dropout is what Monte Carlo dropout sees."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.estimators.network import Members


def members(activation: str = "relu", n_members: int = 3) -> Members:
    module = Members(4, [8, 6], 2, n_members, 0.3, activation, torch.Generator().manual_seed(0))
    module.x_mean, module.x_std = torch.arange(4.0), torch.tensor([1.0, 2.0, 3.0, 4.0])
    module.y_mean, module.y_std = torch.tensor([5.0, -5.0]), torch.tensor([2.0, 3.0])
    return module.eval()


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
def test_every_member_is_a_perceptron_of_its_own(activation: str) -> None:
    module = members(activation)
    x = torch.randn(7, 4)
    found = module(x)
    assert found.shape == (7, 3, 2)
    layer: nn.Module = {"relu": nn.ReLU(), "silu": nn.SiLU(), "tanh": nn.Tanh()}[activation]
    for m in range(3):
        h = (x - module.x_mean) / module.x_std
        for k in range(3):
            h = h @ module.weights[k][m] + module.biases[k][m]
            h = layer(h) if k < 2 else h
        torch.testing.assert_close(found[:, m], module.y_mean + module.y_std * h)


def test_members_start_apart_and_from_the_seed() -> None:
    module = members()
    assert not torch.equal(module.weights[0][0], module.weights[0][1])
    assert torch.equal(module.weights[0], members().weights[0])


def test_passes_are_vectorized_and_share_masks_between_rows_not_members() -> None:
    module = members("tanh").double()
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mc = mcdrop.wrap(module, masks="shared")
    prediction = mc.predict_with_uncertainty(x, task="regression", seed=0, keep_samples=True)
    assert prediction.run is not None
    assert prediction.run.strategy == "vectorized"
    assert prediction.samples is not None
    alone = mc.predict_with_uncertainty(x[2:3], task="regression", seed=0, keep_samples=True)
    assert alone.samples is not None
    torch.testing.assert_close(alone.samples[:, 0], prediction.samples[:, 2])
    centered = prediction.samples - prediction.mean
    for output in range(2):
        # Over passes, outputs of two members are uncorrelated: 5 standard errors of 100 passes.
        correlation = torch.corrcoef(centered[:, 0, :, output].T)
        assert correlation[0, 1].abs().item() < 0.5
