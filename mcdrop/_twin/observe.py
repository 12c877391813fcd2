"""Runs a fresh copy of the model once, with some training flags set, and notes what it does."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from mcdrop._live.global_random import draws_many, global_states, seeded
from mcdrop._live.memory import address
from mcdrop._live.sites import DropoutSite
from mcdrop._twin.compare import agreement, dropped_out, kept, merged
from mcdrop._twin.copy import structural_copy
from mcdrop._twin.dropout_calls import DropoutCalls
from mcdrop._twin.noise import Draw, NoiseFollower
from mcdrop._twin.recall import Recall

__all__ = ["Inputs", "Observation", "observe"]

Inputs = Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
"""Returns positional and keyword arguments that a run may write to."""

# Path of a module, and the number of its call.
_Key = tuple[str, int]


@dataclass
class Observation:
    """What one run showed.

    Attributes:
        draws: Draws of random numbers and calls of dropout functions, in order.
        branches: Path and line of code that read a random number as a Python number.
        calls: How often each module was called.
        callers: Which module called each.
        differs: Why a module is not what it is in eval mode, by path.
        dropped: Modules that return, or hand on, what they do in eval mode after inverted dropout:
            "thinned" or, if no unit happens to be zero, "scaled".
        hands_on: What a module handed to others that it does not hand them in eval mode.
        written: Names of the buffers that a module wrote to, by path.
        outside: Whether numbers were drawn from NumPy's or Python's generator, or from torch's by
            what is no operator in this thread.
        hidden: Modules that drew from torch's generator without an operator, if asked for.
        arrays: Modules that drew more than one number from NumPy or Python at a time, if asked for.
        error: What the model raised.
        output: What the model returned.
        sites: The dropout calls, where rules of ours are given them.
    """

    draws: list[Draw] = field(default_factory=list)
    branches: set[tuple[str, str]] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    callers: dict[str, str | None] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    hands_on: dict[str, str] = field(default_factory=dict)
    written: dict[str, set[str]] = field(default_factory=dict)
    outside: bool = False
    hidden: set[str] = field(default_factory=set)
    arrays: set[str] = field(default_factory=set)
    error: BaseException | None = None
    output: Any = None
    sites: tuple[DropoutSite, ...] = ()
    _inputs: dict[_Key, Any] = field(default_factory=dict)
    _outputs: dict[_Key, Any] = field(default_factory=dict)

    def same_output(self, other: Observation) -> bool:
        """Tell whether two runs returned the same, but for rounding."""
        return self.error is None and agreement(self.output, other.output) != "differs"


def observe(
    model: nn.Module,
    inputs: Inputs,
    flags: Collection[str] = (),
    *,
    recorded: Observation | None = None,
    corrects: bool = False,
    finds_hidden: bool = False,
    seed: int = 0,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    recall: Recall | None = None,
) -> Observation:
    """Run a fresh copy of the model, with dropout answered by its expectation.

    Args:
        model: The caller's model, only read.
        inputs: Makes the arguments.
        flags: Paths of the modules whose training flag is set.
        recorded: The run in eval mode to compare modules with; None records one.
        corrects: Whether modules are given, and go on with, what the recorded run had there, so
            that one run judges every module by itself.
        finds_hidden: Whether to look at torch's generator around every module.
        seed: For the global generators.
        device: Where to run.
        dtype: Floating point type to run in.
        recall: What costly operators returned in earlier runs, for runs on the same rows.
    """
    twin = structural_copy(model, device=device, dtype=dtype)
    seen = Observation()
    before = {name: x.detach().clone() for name, x in twin.named_buffers()}
    observer = _Observer(twin, seen, flags, recorded, corrects, finds_hidden, recall)
    args, kwargs = inputs()
    failure = _Failure()
    with torch.no_grad(), seeded(seed) as randomness, failure, observer.calls, observer.follower:
        observer.look_for_hidden("")
        seen.output = twin(*args, **kwargs)
    seen.outside = randomness.used
    seen.draws, seen.branches = observer.follower.draws, observer.follower.branches
    seen.sites = tuple(observer.calls.seen.sites)
    seen.error = failure.error
    if failure.error is not None:
        observer.blame_for(failure.error, flags)
    for name, x in twin.named_buffers():
        if name not in before or agreement(x, before[name]) == "differs":
            path, _, attribute = name.rpartition(".")
            seen.written.setdefault(path, set()).add(attribute)
    return seen


class _Failure:
    """Holds an exception of the model's, whatever it is; interrupts pass."""

    error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        self.error = error
        return isinstance(error, Exception)


class _Observer:
    """The hooks of one run."""

    def __init__(
        self,
        twin: nn.Module,
        seen: Observation,
        flags: Collection[str],
        recorded: Observation | None,
        corrects: bool,
        finds_hidden: bool,
        recall: Recall | None,
    ) -> None:
        self._seen = seen
        self._recorded = recorded
        self._corrects = corrects
        self._finds_hidden = finds_hidden
        self._state: Tensor | None = None
        self._seed = 0
        self._others: Any = None
        self._stack: list[str] = []
        self._n_left: Counter[str] = Counter()
        self._paths = {id(module): path for path, module in twin.named_modules()}
        weights = frozenset(filter(None, map(address, twin.parameters())))
        self.follower = NoiseFollower(self._stack, weights, recall)
        self.calls = DropoutCalls(self.follower, weights)
        for path, module in twin.named_modules():
            module.__dict__["training"] = path in flags
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
            module.register_forward_pre_hook(self._enter_hook(path), with_kwargs=True)
            module.register_forward_hook(self._leave_hook(path), always_call=True)

    def look_for_hidden(self, path: str) -> None:
        """Blame a module if torch's generator moved since the last look."""
        if not self._finds_hidden:
            return
        others = global_states()
        if self._others is not None and draws_many(self._others, others):
            self._seen.arrays.add(path)
        self._others = others
        state, seed = torch.get_rng_state(), torch.initial_seed()
        # A model that seeds the generator moves it too, and has drawn nothing.
        if self._state is not None and seed == self._seed and not torch.equal(state, self._state):
            self._seen.hidden.add(path)
        self._state, self._seed = state, seed

    def _enter_hook(self, path: str) -> Any:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
            self.follower.paused = True
            self.look_for_hidden(self._stack[-1] if self._stack else "")
            try:
                return self._enter(path, (args, kwargs))
            finally:
                self._stack.append(path)
                self.calls.seen.modules.append((path, module))
                self.follower.paused = False

        return enter

    def _enter(self, path: str, given: Any) -> Any:
        """Record what a module is given, or compare it; return what it is to be given instead."""
        seen, caller = self._seen, self._stack[-1] if self._stack else None
        seen.calls[path] += 1
        seen.callers[path] = caller
        key = path, seen.calls[path]
        if self._recorded is None:
            seen._inputs[key] = kept(given)
            return None
        expected = self._recorded._inputs.get(key)
        if not self._corrects or caller is None or expected is None:
            return None
        if agreement(given, expected) != "differs":
            return None
        seen.hands_on.setdefault(caller, f"hands {path} other inputs")
        self._note_dropped(caller, given, expected)
        return merged(given, expected)

    def _leave_hook(self, path: str) -> Any:
        def leave(_module: nn.Module, _args: Any, output: Any) -> Any:
            self._stack.pop()
            self.calls.seen.modules.pop()
            if sys.exc_info()[0] is not None:
                return None
            self.follower.paused = True
            self.look_for_hidden(path)
            try:
                return self._leave(path, output)
            finally:
                self.follower.paused = False

        return leave

    def _leave(self, path: str, output: Any) -> Any:
        """Record what a module returns, or compare it; return what it is to return instead."""
        self._n_left[path] += 1
        key = path, self._n_left[path]
        if self._recorded is None:
            self._seen._outputs[key] = kept(output)
            return None
        if not self._corrects or key not in self._recorded._outputs:
            return None
        expected = self._recorded._outputs[key]
        found = agreement(output, expected)
        if found == "differs":
            self._seen.differs.setdefault(path, "its output differs")
            self._note_dropped(path, output, expected)
        # Also where it is close: what follows then compares bit for bit.
        if found == "equal":
            return None
        other = merged(output, expected)
        return kept(expected) if other is None else other

    def _note_dropped(self, path: str, now: Any, expected: Any) -> None:
        found = dropped_out(now, expected)
        if found and self._seen.dropped.get(path) != "thinned":
            self._seen.dropped[path] = found

    def blame_for(self, error: BaseException, flags: Collection[str]) -> None:
        """Blame an exception on the innermost module whose flag was set, torch's own last."""
        inside, trace = [], error.__traceback__
        while trace is not None:
            module = trace.tb_frame.f_locals.get("self")
            path = self._paths.get(id(module))
            if path is not None and path in flags:
                inside.append((not type(module).__module__.startswith("torch.nn."), path))
            trace = trace.tb_next
        if inside:
            line = (str(error).strip().splitlines() or [""])[0][:60]
            own = [path for is_own, path in inside if is_own] or [path for _, path in inside]
            self._seen.differs[own[-1]] = f"it raises {type(error).__name__}: {line}"
