"""How one prediction is to run, as the caller asked for it."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mcdrop._engine.inputs import Prepare
from mcdrop._engine.outputs import Selection
from mcdrop._engine.plan import Memory
from mcdrop._engine.record import Masks, Strategy
from mcdrop._live.rules.registry import registrations
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.source import MaskSource
from mcdrop._trees import tensors
from mcdrop.checks import checked_device, require_choice, require_count
from mcdrop.errors import McdropError, NoDropoutError, RangeError, UnsupportedError
from mcdrop.layers.suggest import injection_line

__all__ = ["AskedStrategy", "ClosedFormLostError", "Controls", "Settings", "Signature"]

AskedStrategy = Literal["auto", Strategy]
_CODE = (types.FunctionType, types.MethodType, functools.partial)
Controls = bool | Literal["auto"]
_STRATEGIES = ("auto", *get_args(Strategy))


class Signature:
    """Something long that is compared and hashed many times."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, parts: Hashable) -> None:
        self._parts = parts
        self._hash = hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Signature) and self._parts == other._parts)


class ClosedFormLostError(UnsupportedError):
    """The last dropout does not feed the output layer alone, perhaps for later inputs only."""


@dataclass(frozen=True)
class Settings:
    """Settings of one prediction.

    Attributes:
        function: Public function to name in errors.
        model: The caller's model, only read.
        rates: Dropout rates by site name; the key "" overrides all.
        stochastic: Module types and names whose own `training` flag gates their randomness.
        masks: "independent" (each row its own) or "shared" (all rows of all batches the same).
        stratified: Whether passes are a Latin hypercube: every 16 share a unit's drops evenly.
        strategy: "auto", or the strategy to run whatever the plan prefers.
        selection: Which tensor of the output is the prediction.
        seed: Seed of the masks; None draws one from the operating system.
        batch_size: Rows per forward call, or None.
        sample_chunk: Passes per vectorized call, or None to choose.
        device: Where to run; None for where the model is.
        dtype: Floating point type to run in; None for the model's.
        progress: Whether to show a progress bar on standard error.
        prepare: Turns an item of the inputs, or all of them, into what the model takes.
        exact_last: Integrate the last dropout in closed form; "auto" where it can be. Chunks are
            then (s, n, ..., 2).
        redraws: Draw the last mask several times in every pass where that takes little time.
            Chunks are then (s, n, ..., 1 + redraws).
        scores: Turns outputs of passes, (s, n, ...), into what is linearized, of the same shape;
            None for the outputs themselves. Where it is given, passes do without the control
            variate where that is not possible.
        exclusive: Whether the scores of a row are those of classes that exclude one another.
        control_variate: Whether the linearized network is the control variate; "auto" does not
            take it, but lets the last dropout be integrated or redrawn where that costs little.
        first_row: Number of the first row; the masks of a row depend on its number.
        row_numbers: Numbers of all rows, where they do not count on from the first.
        n_samples: Passes per row, if they are known in advance; few stratified ones are drawn
            differently.
        memory: What earlier predictions of the same wrapper found out.
    """

    function: str
    model: nn.Module
    rates: Mapping[str, float]
    stochastic: tuple[type[nn.Module] | str, ...] = ()
    masks: Masks = "independent"
    stratified: bool = True
    strategy: AskedStrategy = "auto"
    selection: Selection = field(default_factory=Selection)
    seed: int | None = None
    batch_size: int | None = None
    sample_chunk: int | None = None
    device: str | torch.device | None = None
    dtype: torch.dtype | None = None
    progress: bool = False
    prepare: Prepare | None = None
    exact_last: Controls = False
    redraws: bool = False
    scores: Callable[[Tensor], Tensor] | None = None
    exclusive: bool = False
    control_variate: Controls = False
    first_row: int = 0
    row_numbers: tuple[int, ...] | None = None
    n_samples: int | None = None
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        for argument, least in (("batch_size", 1), ("sample_chunk", 1), ("seed", 0)):
            value = getattr(self, argument)
            if value is not None:
                require_count(self.function, argument, value, least)
        require_choice(self.function, "strategy", self.strategy, _STRATEGIES)
        if not isinstance(self.control_variate, bool) and self.control_variate != "auto":
            raise RangeError.of(
                self.function,
                "control_variate",
                'be True, False or "auto"',
                repr(self.control_variate),
                "Leave it out for the last dropout in closed form alone",
            )
        checked_device(self.function, self.device)
        if self.dtype is not None and not _is_floating(self.dtype):
            raise RangeError.of(
                self.function,
                "dtype",
                "be a floating point type of torch, or None",
                repr(self.dtype),
                "Pass torch.float32, torch.float64 or torch.bfloat16",
            )

    def structure(self) -> Hashable:
        """Return what a plan depends on of the model as it is."""
        return Signature(tuple(_structure(self.model)))

    def signature(self, structure: Hashable = None) -> Hashable:
        """Return what a plan depends on besides the inputs: the model as it is, and the options.

        Args:
            structure: That of the model, where it is known.
        """
        device = self.place()
        return (
            structure or self.structure(),
            self.selection.identity(),
            tuple(sorted(self.rates.items())),
            (
                self.stochastic,
                self.masks,
                self.exact_last,
                self.redraws,
                self.control_variate is True,
                registrations(),
            ),
            (str(device), self.dtype, torch.is_autocast_enabled(device.type)),
        )

    def place(self) -> torch.device:
        """Return the device to run on: the one asked for, or the model's."""
        if self.device is not None:
            return torch.device(self.device)
        first = next(_tensors(self.model), None)
        return torch.device("cpu") if first is None else first.device

    def source(self, seed: int, device: torch.device) -> MaskSource:
        """Return what draws the masks.

        Args:
            seed: Seed of the masks.
            device: Where they are drawn.
        """
        return MaskSource(seed, device, stratified=self.stratified, n_samples=self.n_samples)

    def placed(self, inputs: Any) -> Settings:
        """Return settings on the device of the inputs, where the model has none of its own."""
        if self.device is not None or next(_tensors(self.model), None) is not None:
            return self
        first = next(tensors(inputs), None)
        return self if first is None else replace(self, device=first.device)

    def no_closed_form(self, found: str) -> McdropError:
        """Make the error for a last dropout that cannot be integrated."""
        asked = self.exact_last != "auto" and not self.redraws
        return ClosedFormLostError.of(
            self.function,
            "exact_last" if asked else "control_variate",
            "be True only where the last dropout feeds the output layer alone"
            if asked
            else "be False where the last dropout does not always feed the output layer alone",
            found,
            "Leave exact_last out" if asked else "Pass control_variate=False",
        )

    def no_control(self, reason: str) -> McdropError:
        """Make the error for a control variate that was asked for and is not possible."""
        return UnsupportedError.of(
            self.function,
            "control_variate",
            "be 'auto' or False here",
            f"True: {reason}",
            "Leave it out",
        )

    def check_sites(self, sites: Sequence[DropoutSite]) -> None:
        """Refuse rates for sites that do not exist."""
        known = {site.name for site in sites} | {site.name.split("#")[0] for site in sites}
        unknown = sorted(set(self.rates) - known - {""})
        if unknown:
            raise RangeError.of(
                self.function,
                "p",
                f"name dropout sites among {sorted(known)}",
                unknown,
                "Take the names from mc.sites(x)",
            )

    def check_live(self, sites: Sequence[DropoutSite]) -> None:
        """Refuse a model in which nothing became random."""
        if any(site.fired for site in sites):
            return
        kind = type(self.model).__name__
        if sites:
            found = ", ".join(f"{site.name} (p={site.p:g})" for site in sites[:10])
            raise NoDropoutError.of(
                self.function,
                "model",
                "have a dropout with 0 < p < 1",
                f"{kind} with {found}",
                "Override the rate: mcdrop.wrap(model, p=0.1)",
            )
        raise NoDropoutError.of(
            self.function,
            "model",
            "call dropout in its forward pass",
            f"{kind} without any{self._idle()}",
            f"Train with dropout, or add it: {injection_line(self.model)}",
        )

    def _idle(self) -> str:
        """Return what the model or caller has that looks like dropout, but never drops."""
        modules = [(name or "the model", m) for name, m in self.model.named_modules()]
        unused = [name for name, m in modules if "drop" in type(m).__name__.lower()]
        single = [
            f"{name} is a {type(m).__name__} with dropout={m.dropout:g}, which drops between layers"
            " alone, and one layer"
            for name, m in modules
            if isinstance(m, nn.RNNBase) and m.num_layers == 1 and m.dropout > 0
        ]
        found = [f"has {', '.join(unused[:10])}, but never called it"] if unused else []
        found += single[:1]
        found += ["so the rates given as `p` override nothing"] if self.rates else []
        return f" ({'; '.join(found)})" if found else ""


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def _is_floating(dtype: object) -> bool:
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


def _structure(model: nn.Module) -> Iterator[Hashable]:
    """Yield modules with their plain attributes, and the shapes of parameters and buffers."""
    for path, module in model.named_modules():
        kind = type(module)
        plain = [
            (name, value)
            for name, value in module.__dict__.items()
            if isinstance(value, bool | int | float | str) and name != "training"
        ]
        yield path, kind.__module__, kind.__qualname__, id(kind), tuple(plain), _code(module)
    named: list[tuple[str, Any]] = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in named:
        yield name, tuple(tensor.shape), tensor.dtype


def _code(module: nn.Module) -> tuple[int, ...]:
    """Return the identities of functions and hooks set on a module, which change what it does."""
    held = module.__dict__
    functions = [id(value) for value in held.values() if isinstance(value, _CODE)]
    return (
        *functions,
        *map(id, held["_forward_hooks"].values()),
        *map(id, held["_forward_pre_hooks"].values()),
    )
