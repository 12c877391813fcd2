"""Random numbers that a model takes from the global generators of torch, NumPy or Python.

The mode serves what goes through torch's functions. The rest (NumPy, Python, random operators
without a rule) has no keyed streams: a model that draws from a global generator is seeded by pass,
and the caller's state put back. Whether it does is noticed in the calling thread, so that others
may draw meanwhile and keep their numbers; NumPy's generator shows only that it has moved, and
counts as used if it has in two runs. Only while a model that draws is run does another thread get
other numbers from the same generators than without the prediction.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch

from mcdrop._live.functorch import DispatchMode

__all__ = ["GlobalRandomness", "noticed", "run_seeded_if_random", "run_unmoved", "seeded"]

Result = TypeVar("Result")

_RANDOM: Any = random.random
# The object whose methods the functions of `random` are.
_PYTHON = _RANDOM.__self__


class GlobalRandomness(DispatchMode):
    """Notices draws from the generators of torch and Python in this thread.

    Attributes:
        used: Whether there was one.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.used = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator of torch, and note if it moves the global generator."""
        kwargs = kwargs or {}
        if self.used or torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        before = torch.get_rng_state()
        result = func(*args, **kwargs)
        self.used = not torch.equal(before, torch.get_rng_state())
        return result

    def profile(self, frame: FrameType, event: str, called: Any) -> None:
        """Note a call of Python's global generator."""
        if event == "c_call" and getattr(called, "__self__", None) is _PYTHON:
            self.used = True


@contextmanager
def noticed() -> Iterator[GlobalRandomness]:
    """Notice draws of a model from the generators of torch and Python; put back if there are any.

    Yields:
        Whether it draws from any, known when the context is left.
    """
    found = GlobalRandomness()
    before = _states()
    # A profiler of the caller's stays at work; then Python's generator is looked at from outside.
    profiler = sys.getprofile()
    try:
        with found:
            if profiler is None:
                sys.setprofile(found.profile)
            yield found
    finally:
        if profiler is None:
            sys.setprofile(None)
        elif random.getstate() != before[2]:
            found.used = True
        if found.used:
            _put_back(before)


@contextmanager
def seeded(seed: int) -> Iterator[GlobalRandomness]:
    """Seed the global generators while a model runs, and put them back.

    Args:
        seed: Any integer of at least 0.

    Yields:
        Whether one of them moved, known when the context is left.
    """
    found = GlobalRandomness()
    before = _states()
    torch.default_generator.manual_seed(seed % 2**63)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    started = _states()
    try:
        yield found
    finally:
        found.used = not all(map(_same, _states(), started))
        _put_back(before)


def run_unmoved(run: Callable[[], Result], *, threads: bool = False) -> tuple[Result, bool]:
    """Run a model and leave the global generators as they were.

    Args:
        run: Runs the model; again if a generator has moved, which others may have done.
        threads: Whether the model may draw from torch's generator in threads of its own, so that
            this generator too counts as used if it has moved in two runs.

    Returns:
        What it returned, and whether it draws from a global generator.
    """
    first = before = _states()
    moved = True
    try:
        for _ in range(2):
            with noticed() as found:
                result = run()
            after = _states()
            moved = not _same(before[1], after[1]) or (threads and not _same(before[0], after[0]))
            before = after
            if found.used or not moved:
                break
    finally:
        if moved:
            _put_back((first[0] if threads else None, first[1], None))
    return result, found.used or moved


def run_seeded_if_random(
    run: Callable[[], Result], seed: int, *, threads: bool = False
) -> tuple[Result, bool]:
    """Run a model and leave the global generators as they were.

    Args:
        run: Runs the model; again, seeded, if it draws from a global generator.
        seed: Any integer of at least 0.
        threads: As for `run_unmoved`.

    Returns:
        What it returned, and whether it draws.
    """
    result, draws = run_unmoved(run, threads=threads)
    if draws:
        with seeded(seed):
            result = run()
    return result, draws


def _states() -> tuple[Any, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _put_back(states: tuple[Any, Any, Any]) -> None:
    """Put back the states of torch, NumPy and Python that are given."""
    puts: tuple[Any, ...] = (torch.set_rng_state, np.random.set_state, random.setstate)
    for state, put in zip(states, puts, strict=True):
        if state is not None:
            put(state)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a[1], np.ndarray):
        return bool(np.array_equal(a[1], b[1]) and a[2:] == b[2:])
    return bool(a == b)
