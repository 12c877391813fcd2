"""The default network, and losses of many members at once, against torch's own."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import distributions

from mcdrop.baselines.network_parts import (
    cross_entropy,
    half_squared_error,
    normal_loss,
    perceptron,
)

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
