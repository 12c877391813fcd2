"""A hash of a model: of its weights, its modules and how its dropout is to run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import nn

from mcdrop.wrapper import MCDropout

__all__ = ["model_digest"]


def model_digest(mc: MCDropout) -> str:
    """Return a hash that is the same in every process, and differs for other weights or rates.

    Code that the modules call is not part of it, other than the graph of an exported program.

    Args:
        mc: The wrapped model.
    """
    found = hashlib.sha256()
    for path, module in mc.model.named_modules():
        kind = type(module)
        # The class of an exported program is made anew in every process, under a name of its own.
        name = "" if _graph(module) else f"{kind.__module__}.{kind.__qualname__}"
        found.update(repr((path, name, list(_plain(module)), _graph(module))).encode())
    for name, tensor in chain(mc.model.named_parameters(), mc.model.named_buffers()):
        plain = tensor.detach().cpu().contiguous()
        found.update(repr((name, str(plain.dtype), tuple(plain.shape))).encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _plain(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the plain attributes of a module, such as the rate of a dropout."""
    for name, value in sorted(module.__dict__.items()):
        if isinstance(value, bool | int | float | str) and name != "training":
            yield name, value


def _graph(module: nn.Module) -> str:
    """Return the code of an exported program; nothing for other modules."""
    return module.code if isinstance(module, torch.fx.GraphModule) else ""
