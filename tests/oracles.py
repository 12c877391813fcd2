"""Exact answers, computed slowly and without mcdrop: every mask of a small net, one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array = npt.NDArray[np.float64]


class TinyNet(nn.Module):
    """Linear, ReLU, dropout, linear: `hidden` units may be dropped, so 2^hidden masks exist."""

    def __init__(self, n_in: int, hidden: int, n_out: int, p: float, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Linear(n_in, hidden)
        self.drop = nn.Dropout(p)
        self.last = nn.Linear(hidden, n_out)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.drop(torch.relu(self.first(x)))
        out: torch.Tensor = self.last(hidden)
        return out


def every_mask(net: TinyNet, x: torch.Tensor) -> Iterator[tuple[float, Array]]:
    """Yield (probability, output (N, D)) for each of the 2^hidden masks, in float64."""
    w1, b1 = _array(net.first.weight), _array(net.first.bias)
    w2, b2 = _array(net.last.weight), _array(net.last.bias)
    p = net.drop.p
    hidden = np.maximum(_array(x) @ w1.T + b1, 0)
    for mask in itertools.product((0, 1), repeat=hidden.shape[1]):
        kept = np.array(mask, dtype=np.float64)
        probability = float(np.prod(np.where(kept == 1, 1 - p, p)))
        yield probability, (hidden * kept / (1 - p)) @ w2.T + b2


def exact_mean_and_variance(net: TinyNet, x: torch.Tensor) -> tuple[Array, Array]:
    """Mean and variance of the output over all masks, each (N, D)."""
    mean = sum(probability * out for probability, out in every_mask(net, x))
    square = sum(probability * (out - mean) ** 2 for probability, out in every_mask(net, x))
    return np.asarray(mean), np.asarray(square)


def exact_classification(net: TinyNet, x: torch.Tensor) -> dict[str, Array]:
    """Mean probabilities (N, C), their variance, entropies and vote shares over all masks."""
    probs = np.zeros((len(x), net.last.out_features))
    expected = np.zeros(len(x))
    votes = np.zeros_like(probs)
    entropy_square = np.zeros(len(x))
    for probability, logits in every_mask(net, x):
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        each = exp / exp.sum(axis=1, keepdims=True)
        entropy = -(each * np.log(each)).sum(axis=1)
        probs += probability * each
        expected += probability * entropy
        entropy_square += probability * entropy**2
        votes[np.arange(len(x)), each.argmax(axis=1)] += probability
    variance = np.zeros_like(probs)
    for probability, logits in every_mask(net, x):
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        variance += probability * (exp / exp.sum(axis=1, keepdims=True) - probs) ** 2
    predictive = -(probs * np.log(probs)).sum(axis=1)
    return {
        "probs": probs,
        "probs_variance": variance,
        "expected_entropy": expected,
        "entropy_variance": entropy_square - expected**2,
        "predictive_entropy": predictive,
        "mutual_information": predictive - expected,
        "votes": votes,
    }


def _array(x: torch.Tensor) -> Array:
    return x.detach().numpy().astype(np.float64)
