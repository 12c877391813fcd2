"""Dropout below `torch.utils.checkpoint`, which runs part of a model again for its gradients.

It does so in the backward pass, when dropout is no longer answered: gradients would be those of the
model without dropout.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch

from mcdrop._trees import tensors
from mcdrop.errors import UnsupportedError

__all__ = ["is_checkpointed", "refuse_gradients"]

_CHECKPOINT = "torch.utils.checkpoint"


def is_checkpointed() -> bool:
    """Tell whether `torch.utils.checkpoint` is among the callers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != _CHECKPOINT:
        frame = frame.f_back
    return frame is not None


def refuse_gradients(output: Any, site: str) -> None:
    """Let a backward pass from the outputs fail, rather than return what is wrong.

    Args:
        output: What the model returned.
        site: The dropout call that would not be run again.
    """
    error = UnsupportedError.of(
        "MCDropout",
        "model",
        "drop units outside torch.utils.checkpoint where gradients are asked for",
        f"{site} inside it, which runs again without its mask",
        "Switch checkpointing off",
    )

    def refuse(_: torch.Tensor) -> None:
        raise error

    for x in tensors(output):
        if x.requires_grad:
            x.register_hook(refuse)
