"""Losses of many members at once, and standardized numbers in their own units."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import distributions, nn

from mcdrop.baselines.fitting import (
    cross_entropy,
    half_squared_error,
    normal_loss,
    perceptron,
)
from mcdrop.baselines.networks import L2Network
from mcdrop.baselines.stacked import Training

OUTPUTS = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(1))


def test_each_loss_is_that_of_torch_member_by_member() -> None:
    y = TARGETS.repeat(1, 1, 2)
    squared = [2 * F.mse_loss(o, t) for o, t in zip(OUTPUTS, y, strict=True)]  # 4 outputs, half
    torch.testing.assert_close(half_squared_error(OUTPUTS, y), torch.stack(squared))
    labels = torch.tensor([[0, 1, 2, 3, 0], [1, 1, 2, 0, 0], [3, 3, 3, 2, 1]])
    entropies = [F.cross_entropy(o, t) for o, t in zip(OUTPUTS, labels, strict=True)]
    torch.testing.assert_close(cross_entropy(OUTPUTS, labels), torch.stack(entropies))
    mean, log_variance = OUTPUTS[..., :2], OUTPUTS[..., 2:]
    density = distributions.Normal(mean, (log_variance / 2).exp()).log_prob(TARGETS)
    # The constant log(2 pi) / 2 per output is left out.
    expected = -density.sum(dim=-1).mean(dim=-1) - np.log(2 * np.pi)
    torch.testing.assert_close(normal_loss(OUTPUTS, TARGETS), expected)


def test_hidden_widths_become_layers_with_dropout_between() -> None:
    kinds = [type(layer).__name__ for layer in perceptron(3, 2, (5, 4))]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert perceptron(3, 2, (5, 4))(torch.zeros(6, 3)).shape == (6, 2)


def test_trained_networks_take_and_return_units_of_the_data() -> None:
    X = np.random.default_rng(0).normal(size=(40, 2)) * [1e-3, 1e5] + [1e3, 0]
    y = 1e4 + 50 * X[:, 1]

    def build(n_inputs: int, n_outputs: int) -> nn.Module:
        return nn.Linear(n_inputs, n_outputs)

    model = L2Network(build, weight_decays=[0.0], training=Training(epochs=300)).fit(X, y)
    (network,) = model.networks
    found = network(torch.from_numpy(X)).squeeze(-1).detach()
    np.testing.assert_allclose(found, y, rtol=1e-3)
    assert not network.training
