"""Networks of equal shape that are trained together: one tensor per layer holds all members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "Members"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class Members(nn.Module):
    """M multilayer perceptrons with dropout after every hidden layer; raw units in and out.

    Args:
        n_features: Features of a row, D.
        hidden: Units of every hidden layer.
        n_outputs: Outputs of a member, K.
        n_members: Members, M.
        p: Dropout rate.
        activation: A name in `ACTIVATIONS`.
        generator: Source of the first weights.

    Attributes:
        weights: One (M, inputs, units) per layer.
        biases: One (M, 1, units) per layer.
        x_mean, x_std: Scale of the features, (D,), float64.
        y_mean, y_std: Scale of the outputs, (K,), float64.
    """

    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int],
        n_outputs: int,
        n_members: int,
        p: float,
        activation: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.p = p
        self.activation = activation
        self.n_members = n_members
        sizes = [n_features, *hidden, n_outputs]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, units in pairwise(sizes):
            # He et al. (2015): variance 2 / inputs keeps the scale of rectified layers.
            weight = torch.randn(n_members, inputs, units, generator=generator, dtype=torch.float32)
            self.weights.append(nn.Parameter(weight * (2 / inputs) ** 0.5))
            self.biases.append(nn.Parameter(torch.zeros(n_members, 1, units, dtype=torch.float32)))
        with torch.no_grad():
            self.weights[-1].mul_(0.1)
        for name, size in (("x", n_features), ("y", n_outputs)):
            self.register_buffer(f"{name}_mean", torch.zeros(size, dtype=torch.float64))
            self.register_buffer(f"{name}_std", torch.ones(size, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Predict rows (N, D) with every member, (N, M, K)."""
        scaled = ((x - self.x_mean) / self.x_std).to(self.weights[0].dtype)
        scaled = scaled.expand(self.n_members, *x.shape)
        out = self.layers(scaled, self._drop).transpose(0, 1)
        return self.y_mean + self.y_std * out

    def layers(self, x: Tensor, drop: Callable[[Tensor], Tensor]) -> Tensor:
        """Run scaled rows of each member, (M, n, D), to scaled outputs, (M, n, K).

        Args:
            x: Scaled features.
            drop: Dropout of hidden units, (M, n, units).
        """
        pairs = list(zip(self.weights, self.biases, strict=True))
        for weight, bias in pairs[:-1]:
            x = drop(ACTIVATIONS[self.activation](torch.baddbmm(bias, x, weight)))
        return torch.baddbmm(pairs[-1][1], x, pairs[-1][0])

    def _drop(self, hidden: Tensor) -> Tensor:
        # Rows first, as in the models that dropout masks are made for.
        return F.dropout(hidden.transpose(0, 1), self.p, self.training).transpose(0, 1)
