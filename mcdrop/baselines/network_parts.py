"""The default network, and the losses of many members at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["cross_entropy", "half_squared_error", "normal_loss", "perceptron"]


def perceptron(n_inputs: int, n_outputs: int, hidden: Sequence[int]) -> nn.Sequential:
    """Return linear layers with ReLU and dropout after each hidden one, in float32."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_inputs, width, dtype=torch.float32), nn.ReLU(), nn.Dropout(0.0)]
        n_inputs = width
    return nn.Sequential(*layers, nn.Linear(n_inputs, n_outputs, dtype=torch.float32))


def half_squared_error(outputs: Tensor, y: Tensor) -> Tensor:
    """Half squared error of each member, summed over outputs."""
    return 0.5 * (outputs - y).square().sum(dim=-1).mean(dim=-1)


def normal_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Negative log-likelihood of each member that predicts mean and log variance."""
    mean, log_variance = outputs.chunk(2, dim=-1)
    scaled = (y - mean).square() * (-log_variance).exp()
    return 0.5 * (log_variance + scaled).sum(dim=-1).mean(dim=-1)


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each member."""
    losses = F.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none")
    return losses.unflatten(0, y.shape).mean(dim=1)
