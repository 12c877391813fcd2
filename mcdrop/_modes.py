"""Torch's modes as training needs them, whatever the caller has switched on around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["training_modes"]


@contextmanager
def training_modes() -> Iterator[None]:
    """Record gradients, put new tensors on the CPU, and compute in the types of the tensors.

    All of it is local to the thread, and put back on leaving. Inside `torch.no_grad` or
    `torch.inference_mode` training would fail, and so it would under another default device.
    Autocast would train other weights.
    """
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.device("cpu"),
        torch.autocast("cpu", enabled=False),
    ):
        yield
