"""Tracks which module of the structural copy is running, and opens its gates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from mcdrop._live.call import Call
from mcdrop._live.rules.registry import registered_forward
from mcdrop._trees import tensors
from mcdrop._twin.gates import gate_of, rate_attribute
from mcdrop.errors import RangeError, UnsupportedError

__all__ = ["Tracker"]


class Tracker:
    """Hooks on the structural copy that tell a `Call` which module is running, and open gates.

    Args:
        function: Public function to name in errors.
        twin: The copy; hooks and flags are set on it alone.
        stochastic: Module types and names whose own `training` flag gates their randomness.
    """

    def __init__(
        self, function: str, twin: nn.Module, stochastic: Iterable[type[nn.Module] | str]
    ) -> None:
        self._function = function
        self._rate_gates: list[nn.Module] = []
        self._random_gates: dict[int, bool] = {}
        self._call: Call | None = None
        self._drawn: list[tuple[int, int]] = []
        self._sort(twin, tuple(stochastic))
        for path, module in twin.named_modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
            entry = (path, module)
            module.register_forward_pre_hook(self._enter_hook(entry), with_kwargs=True)
            module.register_forward_hook(self._leave_hook(entry), always_call=True)

    @property
    def has_random_gates(self) -> bool:
        """Whether modules draw random numbers of their own while their gate is open."""
        return bool(self._random_gates)

    def begin(self, call: Call | None) -> None:
        """Track the next forward call; None runs the plain model, with every gate closed."""
        self._call = call
        self._drawn.clear()
        for module in self._rate_gates:
            module.__dict__["training"] = call is not None

    def _sort(self, twin: nn.Module, stochastic: tuple[type[nn.Module] | str, ...]) -> None:
        """Find the gates among the modules of the copy."""
        wrong = [item for item in stochastic if not _names_modules(item)]
        if wrong:
            raise RangeError.of(
                self._function,
                "stochastic",
                "hold module types and names",
                wrong,
                "Take the names from model.named_modules()",
            )
        types = tuple(item for item in stochastic if isinstance(item, type))
        names = {item for item in stochastic if isinstance(item, str)}
        known = dict(twin.named_modules())
        missing = sorted(names - set(known) - {type(m).__name__ for m in known.values()})
        if missing:
            raise RangeError.of(
                self._function,
                "stochastic",
                "name modules of the model or their types",
                missing,
                "Take the names from model.named_modules()",
            )
        for path, module in known.items():
            replacement = registered_forward(type(module))
            if replacement is not None:
                self._replace(module, replacement)
                continue
            if isinstance(module, types) or path in names or type(module).__name__ in names:
                self._random_gates[id(module)] = True
                continue
            gate = gate_of(module)
            if gate == "mixed":
                raise UnsupportedError.of(
                    self._function,
                    "model",
                    "switch only its dropout by the training flag of a module",
                    f"{path or 'the model'} ({type(module).__name__}), where it switches more",
                    f"Call dropout with training=self.training there, or accept all that the flag"
                    f" switches with stochastic=({path or type(module).__name__!r},)",
                )
            if gate == "rate":
                self._rate_gates.append(module)
            elif gate == "random":
                self._random_gates[id(module)] = False

    def _replace(self, module: nn.Module, replacement: Callable[..., Any]) -> None:
        """Run what is registered for a module as its forward, except in the plain model."""
        plain = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self._call is None:
                return plain(*args, **kwargs)
            return replacement(module, *args, **kwargs)

        module.__dict__["forward"] = forward

    def _enter_hook(self, entry: tuple[str, nn.Module]) -> Any:
        """Make the hook that runs before a module."""
        module = entry[1]
        is_gate = id(module) in self._random_gates

        def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
            if self._call is None:
                return
            self._call.seen.modules.append(entry)
            if is_gate:
                self._open(self._call, module, (*args, *kwargs.values()))

        return enter

    def _leave_hook(self, entry: tuple[str, nn.Module]) -> Any:
        """Make the hook that runs after a module, also after an exception."""
        path, module = entry
        asked_for = self._random_gates.get(id(module))

        def leave(*_: Any) -> None:
            call = self._call
            if call is None:
                return
            call.seen.modules.pop()
            if asked_for is None:
                return
            call.seen.open_gates -= 1
            n_before, fired = self._drawn.pop()
            # After an exception of the model's own there is nothing to add.
            failed = sys.exc_info()[0] is not None
            if failed:
                return
            if asked_for and fired and not call.opened and _draws(call) == n_before:
                raise UnsupportedError.of(
                    self._function,
                    "stochastic",
                    "name modules that draw random numbers with torch while training",
                    f"{path or type(module).__name__!r}, which drew none",
                    "Leave it out",
                )

        return leave

    def _open(self, call: Call, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """Open the gate of a module that draws its own numbers, unless every unit is to be kept."""
        attribute = rate_attribute(module)
        rate = float("nan") if attribute is None else float(getattr(module, attribute))
        first = next(tensors(arguments), torch.empty(0))
        site = call.site("module", rate, tuple(first.shape))
        if call.seen.dropped is not None:
            call.seen.dropped.append(first)
        if attribute is not None:
            module.__dict__[attribute] = site.p
        module.__dict__["training"] = not call.opened
        call.seen.open_gates += 1
        self._drawn.append((_draws(call), site.fired))


def _names_modules(item: object) -> bool:
    return isinstance(item, str) or (isinstance(item, type) and issubclass(item, nn.Module))


def _draws(call: Call) -> int:
    """Count the random draws so far: dropout calls and the model's own."""
    return call.seen.random_calls + len(call.seen.sites)
