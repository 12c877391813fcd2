"""Follows random numbers from where they are drawn to where they meet data.

An operator mode sees every draw, also those that no Python code can see. What is computed from a
draw alone is noise, and stays a known function of the draw. Where noise meets data, the result is
replaced by its expectation over the draw: inverted dropout, DropPath and their like then return
what they return in eval mode, and whatever else the draw does shows as a difference.
"""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mcdrop._live.functorch import flattened
from mcdrop._live.memory import address
from mcdrop._live.operators import OperatorMode, written_by
from mcdrop._twin.laws import Law, drawn, ends, expectation, law_of
from mcdrop._twin.recall import Recall
from mcdrop._twin.source_line import source_line

__all__ = ["Draw", "NoiseFollower", "SharedWriteError"]

_FILLS = ("empty", "zeros", "ones", "full", "new_", "scalar_tensor")
_READS = ("_local_scalar_dense", "is_nonzero")
# Operators whose result has as many items as a mask has ones.
_SELECTS = ("index", "masked_select", "nonzero")


class SharedWriteError(RuntimeError):
    """A run on the copy is about to write to a parameter that it shares with the caller."""


@dataclass(eq=False)
class Draw:
    """One draw of random numbers.

    Attributes:
        kind: Name of the operator, or of the dropout function.
        path: Path of the module that draws.
        line: File and line of the code that draws.
        callers: Paths of the modules being called, outermost first; the last is `path`.
        is_call: Whether it is a call of a dropout function that the rules answer.
        meets: What became of it: "mask" if units are dropped, "noise", "branch" or "unknown".
    """

    kind: str
    path: str
    line: str
    callers: tuple[str, ...]
    is_call: bool = False
    meets: set[str] = field(default_factory=set)

    def key(self) -> tuple[str, str, str]:
        """Return what is the same for this draw in every run."""
        return self.path, self.line, self.kind


@dataclass(frozen=True)
class _Noise:
    """A tensor that was computed from a draw alone.

    Attributes:
        tensor: The tensor, kept so that its identity stays its own.
        draw: The draw.
        law: Points of the draw, or the ends of the interval it is uniform on; None if unknown.
        of: Computes the tensor from a value of the draw; None if unknown.
    """

    tensor: Tensor
    draw: Draw
    law: Law | None
    of: Callable[[float], Tensor] | None


class NoiseFollower(OperatorMode):
    """Notes draws, and answers by expectation where noise meets data.

    Args:
        stack: Paths of the modules being called, outermost first; kept up to date by the caller.
        protected: Storage addresses that must not be written to.
        recall: What costly operators returned in earlier runs.

    Attributes:
        draws: The draws so far.
        branches: Path and line of code that read a random number as a Python number.
        paused: Whether operators run unseen.
    """

    def __init__(
        self, stack: Sequence[str], protected: frozenset[int], recall: Recall | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draws: list[Draw] = []
        self.branches: set[tuple[str, str]] = set()
        self.paused = False
        self._stack = stack
        self._protected = protected
        self._recall = recall
        self._noise: dict[int, _Noise] = {}
        # Tensors that were filled with a constant are no data; kept, as addresses are used again.
        self._constants: dict[int, Tensor] = {}
        self._repeats: Counter[tuple[str, str, str]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operator, seen."""
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        name = _name(func)
        written = [] if name == "set_" else written_by(func, args)
        if any(address(x) in self._protected for x in written):
            raise SharedWriteError(f"{name} writes to a parameter")
        if torch.Tag.nondeterministic_seeded in func.tags:
            return self._draw(func, name, args, kwargs)
        values, rebuild, _ = flattened((args, kwargs))
        given = [x for x in values if isinstance(x, Tensor)]
        noise = {id(x): self._noise[id(x)] for x in given if id(x) in self._noise}
        if not noise:
            return self._without_noise(func, name, args, kwargs, given, written)
        return self._with_noise(func, name, values, rebuild, noise, written)

    def note(self, kind: str) -> Draw:
        """Note a draw by the module that is running."""
        path = self._stack[-1] if self._stack else ""
        draw = Draw(kind, path, source_line(), tuple(self._stack))
        self.draws.append(draw)
        return draw

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator, or recall what it returned."""
        if self._recall is None:
            return func(*args, **kwargs)
        return self._recall.run(func, args, kwargs, self._protected)

    def _draw(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator that draws, the same numbers for the same draw of every run."""
        if name == "native_dropout":
            if len(args) > 2 and args[2] is False:
                return func(*args, **kwargs)
            self.note(name).meets.add("mask")
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        draw = self.note(name.rstrip("_"))
        self._repeats[draw.key()] += 1
        seed = zlib.crc32(repr((draw.key(), self._repeats[draw.key()])).encode())
        out = drawn(func, name, args, kwargs, seed)
        law = law_of(name, args, kwargs)
        for tensor in (x for x in flattened(out)[0] if isinstance(x, Tensor)):
            of = None if law is None else _filled(tensor)
            self._noise[id(tensor)] = _Noise(tensor, draw, law, of)
        return out

    def _without_noise(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: list[Tensor],
        written: list[Tensor],
    ) -> Any:
        """Run an operator on data, and remember what is constant."""
        out = self._run(func, args, kwargs)
        if written and any(address(x) not in self._constants for x in given):
            for x in written:
                self._constants.pop(address(x), None)
        elif (
            name.startswith(_FILLS)
            or name.endswith("_like")
            or (given and all(address(x) in self._constants for x in given))
        ):
            for x in flattened(out)[0]:
                if isinstance(x, Tensor) and address(x):
                    self._constants[address(x)] = x
        return out

    def _with_noise(
        self,
        func: Any,
        name: str,
        values: list[Any],
        rebuild: Callable[[Sequence[Any]], Any],
        noise: dict[int, _Noise],
        written: list[Tensor],
    ) -> Any:
        """Run an operator on noise: on noise alone, on noise and data, or where code reads it."""

        def call(others: Sequence[Any]) -> Any:
            args, kwargs = rebuild(others)
            return self._run(func, args, kwargs)

        draws = {each.draw for each in noise.values()}
        if name in _READS:
            self.branches.add((self._stack[-1] if self._stack else "", source_line()))
            for draw in draws:
                draw.meets.add("branch")
            return call(values)
        first = next(iter(noise.values()))
        known = len(draws) == 1 and all(each.of is not None for each in noise.values())
        held = [
            x.clone() if written and isinstance(x, Tensor) and id(x) not in noise else x
            for x in values
        ]

        def at(value: float) -> Any:
            """Compute the result for one value of the draw."""
            return call(
                [
                    noise[id(x)].of(value)  # type: ignore[misc]
                    if id(x) in noise
                    else (x.clone() if written and isinstance(x, Tensor) else x)
                    for x in held
                ]
            )

        if name in _SELECTS and known:
            everything = self._all_kept(first, noise, at)
            if everything is not None:
                return everything
        is_data = (
            isinstance(x, Tensor)
            and id(x) not in noise
            and x.numel() > 1
            and address(x) not in self._constants
            for x in values
        )
        if not any(is_data):
            return self._still_noise(call, values, first, at if known else None, written)
        answer = expectation(first.law, first.of, at) if known else None
        for draw in draws:
            draw.meets.add("unknown" if answer is None else answer.meets)
        if written:
            self._forget(written)
        if answer is None:
            return call(values)
        if written:
            with torch.no_grad():
                return written[0].copy_(answer.mean)
        return answer.mean

    def _still_noise(
        self,
        call: Callable[[Sequence[Any]], Any],
        values: list[Any],
        noise: _Noise,
        at: Callable[[float], Any] | None,
        written: list[Tensor],
    ) -> Any:
        """Run an operator on noise and constants."""
        out = call(values)
        if written:
            self._forget(written)
        results = [x for x in flattened(out)[0] if isinstance(x, Tensor)]
        for number, tensor in enumerate(results):
            of = None if at is None else _part(at, number)
            law = None if at is None else noise.law
            self._noise[id(tensor)] = _Noise(tensor, noise.draw, law, of)
        return out

    def _forget(self, written: list[Tensor]) -> None:
        """Forget how tensors that share memory with a written one came from their draw."""
        places = {address(x) for x in written}
        for key, each in list(self._noise.items()):
            if address(each.tensor) in places:
                self._noise[key] = _Noise(each.tensor, each.draw, None, None)
        for x in written:
            self._noise.pop(id(x), None)

    def _all_kept(
        self, first: _Noise, noise: dict[int, _Noise], at: Callable[[float], Any]
    ) -> Any | None:
        """Answer a selection by a random mask for the value of the draw that selects all."""
        masks = [each for each in noise.values() if each.tensor.dtype == torch.bool]
        if len(masks) != len(noise):
            return None
        for value in ends(first.law):
            if all(bool(mask.of(value).all()) for mask in masks if mask.of is not None):
                first.draw.meets.add("mask")
                return at(value)
        return None


def _filled(tensor: Tensor) -> Callable[[float], Tensor]:
    return lambda value: torch.full_like(tensor, value)


def _part(at: Callable[[float], Any], number: int) -> Callable[[float], Tensor]:
    """Return a function that computes one of the tensors that `at` computes."""

    def of(value: float) -> Tensor:
        found: Tensor = [x for x in flattened(at(value))[0] if isinstance(x, Tensor)][number]
        return found

    return of


@functools.cache
def _name(func: Any) -> str:
    """Return the name of an operator without namespace and overload."""
    return str(func).split(".")[1]
