"""The line of code that gives a model without dropout some."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mcdrop.layers.inject import ACTIVATIONS

__all__ = ["injection_line"]

# Modules that return one tensor of hidden units, or whose output `inject_dropout` knows.
_HIDDEN = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.LayerNorm,
    nn.Embedding,
    nn.RNNBase,
    nn.MultiheadAttention,
)


def injection_line(model: nn.Module) -> str:
    """Return code that puts dropout into this model: after its activations or hidden layers.

    Args:
        model: A model without dropout, held in a variable `model`.

    Example:
        >>> injection_line(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)))
        'mcdrop.layers.inject_dropout(model, p=0.1)'
        >>> injection_line(nn.Sequential(nn.LSTM(3, 8)))
        'mcdrop.layers.inject_dropout(model, p=0.1, after=("0",))'
    """
    modules = [(path, module) for path, module in model.named_modules() if path]
    if any(isinstance(module, ACTIVATIONS) for _, module in modules):
        return "mcdrop.layers.inject_dropout(model, p=0.1)"
    hidden = [(path, module) for path, module in modules if isinstance(module, _HIDDEN)]
    # Dropout after the last layer would drop predictions, unless that is recurrent.
    inside = [path for path, module in hidden[:-1] if not _inside_attention(path, hidden)]
    inside += [path for path, module in hidden[-1:] if isinstance(module, nn.RNNBase)]
    if inside:
        return f'mcdrop.layers.inject_dropout(model, p=0.1, after=("{inside[-1]}",))'
    return "torch.nn.Sequential(torch.nn.Dropout(0.1), model)"


def _inside_attention(path: str, modules: Sequence[tuple[str, nn.Module]]) -> bool:
    """Whether a module is part of a MultiheadAttention, which reads its weight alone."""
    parent = path.rpartition(".")[0]
    return any(
        name == parent and isinstance(module, nn.MultiheadAttention) for name, module in modules
    )
