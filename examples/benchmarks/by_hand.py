"""What one writes without a library: the loop, the replicated batch and the dense limit."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["Moments", "dense", "live_copy", "loop", "replicated"]

Moments = tuple[Tensor, Tensor]

# `training` of these four gates their dropout. The encoder layer must leave its fused path as well.
_GATED = (_DropoutNd, nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer)


def live_copy(model: nn.Module, *gated: type[nn.Module]) -> nn.Module:
    """Return a copy whose dropout, and nothing else, is in train mode.

    Args:
        model: The model.
        gated: Kinds of modules of its own whose flag gates their dropout.
    """
    live = copy.deepcopy(model).eval()
    for module in live.modules():
        if isinstance(module, (*_GATED, *gated)):
            module.training = True
    return live


def loop(live: nn.Module, x: Tensor, n_samples: int) -> Tensor:
    """Run S passes one after the other, (S, N, ...)."""
    with torch.inference_mode():
        return torch.stack([live(x) for _ in range(n_samples)])


def replicated(live: nn.Module, x: Tensor, n_samples: int) -> Tensor:
    """Run S passes as one batch of S times the rows, (S, N, ...)."""
    with torch.inference_mode():
        rows = x.repeat(n_samples, *[1] * (x.dim() - 1))
        return live(rows).unflatten(0, (n_samples, x.shape[0]))


def dense(model: nn.Module, x: Tensor, n_samples: int, tile: int) -> Callable[[], None]:
    """Return a call that runs S passes without dropout, `tile` of them at a time."""
    rows = x.repeat(tile, *[1] * (x.dim() - 1))

    def run() -> None:
        with torch.inference_mode():
            for _ in range(n_samples // tile):
                model(rows)

    return run
