"""Random numbers that a model takes from the global generators of torch, NumPy or Python.

The mode serves what goes through torch's functions. The rest (NumPy, Python, random operators
without a rule) has no keyed streams: a pass of such a model is seeded by its own number, and the
caller's state is put back. Another thread that draws from the same generators meanwhile gets other
numbers than without the prediction; models that do not use them are not affected.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["GlobalRandomness", "guarded"]


class GlobalRandomness:
    """What a guarded run did.

    Attributes:
        used: Whether a global generator moved, known when the guard is left.
    """

    used = False


@contextmanager
def guarded(seed: int | None = None) -> Iterator[GlobalRandomness]:
    """Keep the caller's global generators as they are while a model runs.

    Args:
        seed: Seeds the generators for the run; None leaves them as they are.
    """
    found = GlobalRandomness()
    before = started = _state()
    if seed is not None:
        torch.default_generator.manual_seed(seed % 2**63)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        started = _state()
    try:
        yield found
    finally:
        found.used = not all(map(_same, _state(), started))
        if found.used or seed is not None:
            torch.set_rng_state(before[0])
            np.random.set_state(before[1])
            random.setstate(before[2])


def _state() -> tuple[Any, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a[1], np.ndarray):
        return bool(np.array_equal(a[1], b[1]) and a[2:] == b[2:])
    return bool(a == b)
