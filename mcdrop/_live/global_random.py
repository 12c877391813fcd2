"""Random numbers that a model takes from the global generators of torch, NumPy or Python.

The mode serves what goes through torch's functions. The rest (NumPy, Python, random operators
without a rule) has no keyed streams: a model that draws from a global generator is seeded by pass,
and the caller's state put back. A generator that has moved while a model ran may have been moved by
another thread, whose numbers must not be taken back. Torch's operators show who drew; the
generators of NumPy and Python count as used by the model if they have moved in two runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch

from mcdrop._live.operators import OperatorMode

__all__ = [
    "GlobalRandomness",
    "draws_many",
    "global_states",
    "run_seeded_if_random",
    "run_unmoved",
    "seeded",
]

Result = TypeVar("Result")


class GlobalRandomness(OperatorMode):
    """Notices draws from torch's generator in this thread.

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
        run: Runs the model; again, to see who drew, if a generator has moved meanwhile.
        threads: Whether the model may draw from torch's generator in threads of its own. It then
            counts as used if it has moved in two runs, as those of NumPy and Python always do.

    Returns:
        What it returned, and whether it draws from a global generator.
    """
    before = _states()
    has_run = False
    try:
        result = run()
        has_run = True
    finally:
        first = _states()
        moved = _moved(before, first)
        if not has_run:
            _put_back(before, moved)
    if not any(moved):
        return result, False
    with GlobalRandomness() as found:
        result = run()
    again = _moved(first, _states())
    is_used = found.used or any(
        counts and a and b for counts, a, b in zip((threads, True, True), moved, again, strict=True)
    )
    if is_used:
        _put_back(before, moved)
    return result, is_used


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


def draws_many(before: tuple[Any, Any, Any], after: tuple[Any, Any, Any]) -> bool:
    """Tell whether NumPy or Python drew more than one number between two states."""
    numbers, own = np.random.RandomState(), random.Random()  # noqa: S311  # the model's own
    numbers.set_state(before[1])
    own.setstate(before[2])
    allowed = [(numbers.get_state(), own.getstate())]
    # A number takes one word of a generator, or two.
    for _ in range(2):
        numbers.bytes(4)
        own.getrandbits(32)
        allowed.append((numbers.get_state(), own.getstate()))
    return not (
        any(_same(each, after[1]) for each, _ in allowed)
        and any(_same(each, after[2]) for _, each in allowed)
    )


def global_states() -> tuple[Any, Any, Any]:
    """Return the states of the generators of torch, NumPy and Python."""
    return _states()


def _states() -> tuple[Any, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _moved(before: tuple[Any, ...], after: tuple[Any, ...]) -> tuple[bool, ...]:
    return tuple(not _same(a, b) for a, b in zip(before, after, strict=True))


def _put_back(states: tuple[Any, ...], which: Sequence[bool] = (True, True, True)) -> None:
    """Put back the states of torch, NumPy and Python, or some of them."""
    puts: tuple[Any, ...] = (torch.set_rng_state, np.random.set_state, random.setstate)
    for state, put, is_meant in zip(states, puts, which, strict=True):
        if is_meant:
            put(state)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a[1], np.ndarray):
        return bool(np.array_equal(a[1], b[1]) and a[2:] == b[2:])
    return bool(a == b)
