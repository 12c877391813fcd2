"""Tracks which module of the structural copy is running, and opens its gates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._live.call import Call
from mcdrop._live.rules.registry import registered_forward
from mcdrop._trees import tensors
from mcdrop._twin.gates import gate_of, rate_attribute
from mcdrop._twin.watch import Watched
from mcdrop.errors import McdropError, RangeError, UnsupportedError

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
        self._modules = dict(twin.named_modules())
        self._rate_gates: list[nn.Module] = []
        # By identity; whether the user asked for it.
        self._random_gates: dict[int, bool] = {}
        self._mixed: list[str] = []
        self._call: Call | None = None
        self._is_plain = True
        self._drawn: list[tuple[int, bool, Tensor | None]] = []
        self._sort(twin, tuple(stochastic))
        self._read = (tuple(self._rate_gates), dict(self._random_gates), tuple(self._mixed))
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

    @property
    def asked_for(self) -> frozenset[str]:
        """Paths of the modules that the user named, by name or by type."""
        return frozenset(
            path for path, module in self._modules.items() if self._random_gates.get(id(module))
        )

    def settle(self, watched: Watched) -> None:
        """Take what watching decided in place of what was read off the source.

        Raises:
            UnsupportedError: If dropout fires in training that cannot be made live.
        """
        for lost in watched.lost:
            raise self._refusal(lost.path, lost.reason)
        # Inputs of another kind may have settled it otherwise.
        rate_gates, random_gates, mixed = self._read
        self._rate_gates, self._random_gates = list(rate_gates), dict(random_gates)
        self._mixed = list(mixed)
        named = self.asked_for
        closed = {id(self._modules[path]) for path in watched.off if path not in named}
        opened = {id(self._modules[path]) for path in watched.gates if path not in named}
        self._rate_gates = [m for m in self._rate_gates if id(m) not in closed | opened]
        for key in closed | opened:
            self._random_gates.pop(key, None)
        for path, gate in watched.gates.items():
            if path in named:
                continue
            if gate == "rate":
                self._rate_gates.append(self._modules[path])
            else:
                self._random_gates[id(self._modules[path])] = False
        if watched.ran:
            self._mixed = [p for p in self._mixed if watched.off.get(p, "").startswith("it raises")]

    def begin(self, call: Call | None, *, is_plain: bool = False) -> None:
        """Track the next forward call.

        Args:
            call: The call; None tracks nothing, and runs the plain model.
            is_plain: Whether the plain model runs, with every gate closed.

        Raises:
            UnsupportedError: If a flag switches more than dropout, and what could not be told.
        """
        self._is_plain = is_plain or call is None
        if not self._is_plain:
            for path in self._mixed:
                raise self._refusal(path, "it switches more")
        self._call = call
        self._drawn.clear()
        for module in self._rate_gates:
            module.__dict__["training"] = not self._is_plain
        is_open = call is not None and not self._is_plain and not call.opened
        for module in self._modules.values():
            if id(module) in self._random_gates:
                module.__dict__["training"] = is_open

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
        known = self._modules
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
                self._mixed.append(path)
            elif gate == "rate":
                self._rate_gates.append(module)
            elif gate == "random":
                self._random_gates[id(module)] = False

    def _refusal(self, path: str, found: str) -> McdropError:
        """Make the error for a flag that switches dropout and something else."""
        kind = type(self._modules[path]).__name__
        return UnsupportedError.of(
            self._function,
            "model",
            "switch only its dropout by the training flag of a module",
            f"{path or 'the model'} ({kind}), where {found}",
            "Call dropout with training=self.training there, register how it is computed with"
            " mcdrop.register_rule, or accept all that the flag switches with"
            f" stochastic=({path or kind!r},)",
        )

    def _replace(self, module: nn.Module, replacement: Callable[..., Any]) -> None:
        """Run what is registered for a module as its forward, except in the plain model."""
        plain = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self._call is None or self._is_plain:
                return plain(*args, **kwargs)
            self._call.seen.used_registered = True
            return replacement(module, *args, **kwargs)

        module.__dict__["forward"] = forward

    def _enter_hook(self, entry: tuple[str, nn.Module]) -> Any:
        """Make the hook that runs before a module."""
        module = entry[1]

        def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
            if self._call is None:
                return
            self._call.seen.modules.append(entry)
            if not self._is_plain and id(module) in self._random_gates:
                self._open(self._call, module, (*args, *kwargs.values()))

        return enter

    def _leave_hook(self, entry: tuple[str, nn.Module]) -> Any:
        """Make the hook that runs after a module, also after an exception."""
        path, module = entry

        def leave(*_: Any) -> None:
            call = self._call
            if call is None:
                return
            call.seen.modules.pop()
            asked_for = self._random_gates.get(id(module))
            if asked_for is None or self._is_plain:
                return
            call.seen.open_gates -= 1
            n_before, fired, state = self._drawn.pop()
            # After an exception of the model's own there is nothing to add.
            failed = sys.exc_info()[0] is not None
            if failed:
                return
            # What is no operator of torch's in this thread draws from the generator unseen.
            in_hiding = state is not None and not torch.equal(state, torch.get_rng_state())
            drew = in_hiding or _draws(call) > n_before
            if asked_for and fired and not call.opened and not drew:
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
        first = next(tensors(arguments), torch.empty(0, device="cpu"))
        site = call.site("module", rate, tuple(first.shape))
        if call.seen.dropped is not None:
            call.seen.dropped.append(first)
        call.seen.open_gates += 1
        state = torch.get_rng_state() if self._random_gates[id(module)] else None
        self._drawn.append((_draws(call), site.fired, state))
        if attribute is None and site.p > 0:
            raise UnsupportedError.of(
                self._function,
                "p",
                "override rates only of modules that hold theirs in an attribute such as `p`",
                f"{site.p:g} for {site.name} ({type(module).__name__})",
                "Name the sites to change: p={'name of a site': rate}",
            )
        if attribute is not None:
            module.__dict__[attribute] = site.p
        # A rate of zero that the module cannot be told keeps its gate closed. It may read the
        # flags of modules below it.
        is_open = not call.opened and (site.fired or site.p > 0)
        for inner in module.modules():
            if id(inner) in self._random_gates:
                inner.__dict__["training"] = is_open


def _names_modules(item: object) -> bool:
    return isinstance(item, str) or (isinstance(item, type) and issubclass(item, nn.Module))


def _draws(call: Call) -> int:
    """Count the random draws so far: dropout calls and the model's own."""
    return call.seen.random_calls + len(call.seen.sites)
