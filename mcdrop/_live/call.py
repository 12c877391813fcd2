"""One forward call of the model: what it is given to draw its masks, and what was seen of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._fusion.placeholders import Placeholders, describes
from mcdrop._live.functorch import below_vmap, is_batched, shares_memory
from mcdrop._live.last_layer import LastLayer
from mcdrop._live.memory import address
from mcdrop._live.multipliers import Multipliers
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.rows import RowDim, RowLayout
from mcdrop._masks.source import MaskSource, Span
from mcdrop._trees import tensors
from mcdrop.errors import UnsupportedError

__all__ = [
    "DROPOUT_MODULES",
    "ROOT_NAME",
    "Call",
    "InPlaceError",
    "Rule",
    "Seen",
    "SharedWriteError",
    "TorchFunction",
]

ROOT_NAME = "(root)"

DROPOUT_MODULES = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
"""The modules of torch that do nothing but call a dropout function."""

# Modules that drop units in their own code: their sites bear the module's name alone.
_OWNERS = (*DROPOUT_MODULES, nn.RNNBase, nn.MultiheadAttention)

TorchFunction = Callable[..., Any]

# What these return takes no memory of its own.
_EXPANDING = ("expand", "expand_as", "broadcast_to")


class InPlaceError(RuntimeError):
    """A model reads a tensor that an in-place dropout should have overwritten, but did not."""


class SharedWriteError(RuntimeError):
    """A model is about to write to a parameter that its copy shares with the caller's.

    Attributes:
        address: Storage address of the parameter.
    """

    def __init__(self, address: int) -> None:
        super().__init__("the model writes to one of its parameters")
        self.address = address


@dataclass
class Seen:
    """What was seen while a forward call ran.

    Attributes:
        sites: The dropout calls so far.
        modules: Modules being called, outermost first, as (path, module).
        dropped: What every site was given, if that is asked for.
        flops_before: Floating point operations before every site, if they are counted.
        random_shapes: Shape of each random tensor that the model drew itself.
        random_calls: Number of calls that drew these.
        open_gates: Modules being called whose own random numbers stand for dropout.
        overwritten: Tensors that an in-place dropout of torch's would have written to, and that
            were left alone.
        widest: Numbers per pass in the largest tensor that was dropped out at once.
        largest: Numbers per pass in the largest tensor that differs by pass, if work is counted.
        used_registered: Whether a kernel was answered by what the user registered for it.
        hands_out_memory: Whether the model may have written to tensors where torch does not count.
        drawn_by_batch: Sites whose masks, and modules whose random numbers, depend on the batch as
            a whole rather than on each row.
        checkpointed: A site that would be run again for gradients, without its mask; empty if none.
    """

    sites: list[DropoutSite] = field(default_factory=list)
    modules: list[tuple[str, nn.Module]] = field(default_factory=list)
    dropped: list[Tensor] | None = None
    flops_before: list[int] = field(default_factory=list)
    random_shapes: list[tuple[int, ...]] = field(default_factory=list)
    random_calls: int = 0
    open_gates: int = 0
    overwritten: list[Tensor] = field(default_factory=list)
    widest: int = 0
    largest: int = 0
    used_registered: bool = False
    hands_out_memory: bool = False
    drawn_by_batch: list[str] = field(default_factory=list)
    checkpointed: str = ""
    _names: Counter[str] = field(default_factory=Counter)

    @property
    def module_path(self) -> str:
        """Path of the innermost module being called."""
        return (self.modules[-1][0] if self.modules else "") or ROOT_NAME

    def name_of_site(self, kind: str) -> tuple[str, str]:
        """Return the name of the next dropout call, and the name it shares with its repeats."""
        base = self.module_path
        module = self.modules[-1][1] if self.modules else None
        if kind != "module" and not isinstance(module, _OWNERS):
            base = f"{base}:{kind}"
        self._names[base] += 1
        repeat = self._names[base]
        return (base if repeat == 1 else f"{base}#{repeat}"), base

    def check_not_read(self, values: Any) -> None:
        """Refuse the use of a tensor that an in-place dropout should have overwritten."""
        for x in tensors(values):
            if any(x is stale or shares_memory(x, stale) for stale in self.overwritten):
                raise InPlaceError("the model reads a tensor after an in-place dropout of it")


@dataclass(frozen=True)
class Call:
    """What one forward call is given.

    Attributes:
        rules: How functions are answered.
        source: Where masks and random numbers come from.
        opened: Whether every unit is kept, which must reproduce the plain model.
        span: The passes that run in this call: one, or the passes of a chunk.
        rates: Rates by site name that override the model's own; the key "" overrides all.
        index: The dummy index that vmap batches over the passes of a chunk, or None.
        rows: The row dimensions; None where they are not known.
        shares_masks: Whether all rows share one mask.
        last: Integrates the last dropout in closed form, or None.
        multipliers: Take the place of masks, or None.
        placeholders: What is deferred until it is read; None where nothing may be.
        protected: Storage addresses that an in-place dropout must not write to.
        shared: Storage addresses of the parameters that are shared with the caller's model.
        flops: Counts the floating point operations so far, or None.
        gradients: Whether gradients are recorded.
        seen: What was seen while it ran.
    """

    rules: Mapping[TorchFunction, Rule]
    source: MaskSource
    opened: bool
    span: Span
    rates: Mapping[str, float] = field(default_factory=dict)
    index: Tensor | None = None
    rows: RowLayout | None = None
    shares_masks: bool = False
    last: LastLayer | None = None
    multipliers: Multipliers | None = None
    placeholders: Placeholders | None = None
    protected: frozenset[int] = frozenset()
    shared: frozenset[int] = frozenset()
    flops: Callable[[], int] | None = None
    gradients: bool = field(default_factory=torch.is_grad_enabled)
    seen: Seen = field(default_factory=Seen)

    def site(self, kind: str, p: float, shape: tuple[int, ...]) -> DropoutSite:
        """Record the next dropout call, with the rate in force.

        Args:
            kind: Name of the operation.
            p: The model's own rate.
            shape: Shape of what is dropped out.
        """
        name, base = self.seen.name_of_site(kind)
        rate = self.rates.get(name, self.rates.get(base, self.rates.get("", p)))
        # A module that draws its own numbers may not tell its rate.
        fired = 0.0 < rate < 1.0 or (kind == "module" and math.isnan(rate))
        site = DropoutSite(name, kind, rate, len(self.seen.sites), shape, fired)
        self.seen.sites.append(site)
        if self.flops is not None:
            self.seen.flops_before.append(self.flops())
        return site

    def note_sizes(self, func: TorchFunction, out: Any) -> None:
        """Note how large the tensors are that a function returned for every pass."""
        if getattr(func, "__name__", "") in _EXPANDING:
            return
        for x in tensors(out):
            if x.numel() > self.seen.largest and self.is_batched(x):
                self.seen.largest = x.numel()

    def mask(self, site: DropoutSite, shape: tuple[int, ...]) -> DropoutMask:
        """Return the mask of a dropout call that fires.

        Args:
            site: The call.
            shape: Shape of one pass's mask.
        """
        return DropoutMask(
            self.source,
            site.p,
            shape,
            site.order,
            self.span,
            stacked=self.index is not None,
            rows=self._sharing_rows(site),
            row=self.row_dim(site, shape),
        )

    def _sharing_rows(self, site: DropoutSite) -> tuple[RowDim, ...] | None:
        """Return the dimensions of a mask that rows share; None where they are not asked for."""
        if not self.shares_masks or self.rows is None:
            return None
        rows = self.rows.of_site(site.order, site.name)
        if rows is None:
            raise UnsupportedError.of(
                "mcdrop",
                "masks",
                "be 'independent' where the rows cannot be told apart",
                f"'shared' with a model that calls dropout in {site.name} for some inputs only",
                "Use masks='independent'",
            )
        return rows

    def row_dim(self, site: DropoutSite, mask_shape: tuple[int, ...]) -> RowDim | None:
        """Return the dimension of a mask that counts rows, where each row has its own mask.

        None if rows share masks, or if they cannot be told apart, which is noted.

        Args:
            site: The dropout call.
            mask_shape: Shape of one pass's mask.
        """
        if self.shares_masks:
            return None
        numbers = self.span.rows
        if self.rows is not None and numbers is not None and site.order < len(self.rows.sites):
            rows = self.rows.sites[site.order]
            if len(rows) == 1 and mask_shape[rows[0].dim] == rows[0].per_row * len(numbers):
                return rows[0]
        if not self.opened:
            self.seen.drawn_by_batch.append(site.name)
        return None

    def read(self, value: Any) -> Any:
        """Return nested tuples, lists and dicts with values in place of placeholders."""
        return self.placeholders.read(value, self) if self.placeholders else value

    def arguments(
        self, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what a function is to be given: values, unless its rule takes placeholders."""
        if not self.placeholders:
            return args, kwargs
        if args and func in self.placeholders.accepted_by:
            return (args[0], *self.read(args[1:])), self.read(kwargs)
        if describes(func):
            return args, kwargs
        return self.read(args), self.read(kwargs)

    def check_not_shared(self, targets: Any) -> None:
        """Refuse to write to parameters that are shared with the caller's model."""
        for x in tensors(targets) if self.shared else ():
            if address(x) in self.shared:
                raise SharedWriteError(address(x))

    def is_batched(self, x: Tensor) -> bool:
        """Tell whether a tensor is batched over passes."""
        return self.index is not None and is_batched(x, self.index)

    def over_passes(
        self,
        together: Callable[[Sequence[bool], Sequence[Tensor]], tuple[Tensor, ...] | None],
        alone: Callable[[Sequence[Tensor]], tuple[Tensor, ...]],
        tensors: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Compute something for all passes of a chunk at once; see `functorch.below_vmap`.

        Args:
            together: For tensors that are batched over passes, with passes first.
            alone: For one pass, or for tensors that are the same for all.
            tensors: The inputs as the model sees them.
        """
        if self.index is None:
            return alone(tensors)
        return below_vmap(self.index, together, alone, tensors)


Rule = Callable[[Call, TorchFunction, tuple[Any, ...], dict[str, Any]], Any]
