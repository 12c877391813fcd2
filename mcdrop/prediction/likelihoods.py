"""What a model's output says about y: class probabilities from scores of a stated kind."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mcdrop.errors import McdropError, OutputError, ShapeError

__all__ = ["Outputs", "class_probabilities"]

Outputs = Literal["logits", "probs", "log_probs"]

# Rows of probabilities may miss 1 by this much: half precision keeps three digits.
_SUM_TOLERANCE = 1e-3


def class_probabilities(function: str, values: Tensor, outputs: Outputs, *, binary: bool) -> Tensor:
    """Turn model outputs into class probabilities, refusing what contradicts `outputs`.

    Args:
        function: Public function to name in errors.
        values: Outputs of several passes, (s, n, C, ...), or (s, n) and (s, n, 1) if binary.
        outputs: What they are: "logits", "probs" or "log_probs".
        binary: Whether there is one score per row, for class 1.

    Returns:
        Probabilities with classes along dimension 2; C = 2 if binary.

    Raises:
        ShapeError: If there are no classes where they should be.
        OutputError: If the values cannot be what `outputs` says.
    """
    if binary:
        return _two_class(function, values, outputs)
    return _many_class(function, values, outputs)


def _many_class(function: str, values: Tensor, outputs: Outputs) -> Tensor:
    """Turn outputs into probabilities over C classes along dimension 2."""
    if values.ndim < 3 or values.shape[2] < 2:
        raise ShapeError.of(
            function,
            "model",
            "return (N, C) class scores with C >= 2 for task='classification'",
            f"shape {tuple(values.shape[1:])}",
            "For one score per row use task='binary'; for real values task='regression'",
        )
    total = values.exp().sum(dim=2) if outputs == "log_probs" else values.sum(dim=2)
    normalised = bool(((total - 1).abs() < _SUM_TOLERANCE).all())
    if outputs == "logits":
        if normalised and bool((values >= 0).all()):
            raise _mislabelled(function, "be logits", "probabilities: rows sum to 1", "'probs'")
        return values.softmax(dim=2)
    if not normalised or (outputs == "probs" and bool((values < 0).any())):
        found = f"rows that sum to {total.min().item():.4g} ... {total.max().item():.4g}"
        raise _mislabelled(function, f"be {outputs}", found, "'logits'")
    return values.exp() if outputs == "log_probs" else values


def _two_class(function: str, values: Tensor, outputs: Outputs) -> Tensor:
    """Turn one score per row into probabilities of classes 0 and 1 along dimension 2."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values.squeeze(2)
    if values.ndim != 2:
        raise ShapeError.of(
            function,
            "model",
            "return one score per row, (N,) or (N, 1), for task='binary'",
            f"shape {tuple(values.shape[1:])}",
            "For one score per class use task='classification'",
        )
    if outputs == "logits":
        positive = values.sigmoid()
        return torch.stack([(-values).sigmoid(), positive], dim=2)
    positive = values.exp() if outputs == "log_probs" else values
    if bool(((positive < 0) | (positive > 1)).any()):
        found = f"values from {positive.min().item():.4g} to {positive.max().item():.4g}"
        raise _mislabelled(function, f"be {outputs}", found, "'logits'")
    return torch.stack([1 - positive, positive], dim=2)


def _mislabelled(function: str, condition: str, found: str, instead: str) -> McdropError:
    return OutputError.of(
        function,
        "outputs",
        f"say what the model returns: {condition}",
        found,
        f"Pass outputs={instead}",
    )
