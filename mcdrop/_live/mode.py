"""Dropout kept alive: a function mode that answers dropout calls while the model stays in eval().

The mode belongs to the thread that enters it. It sees every torch function the model calls; the
ones that have a rule are answered with random masks, all others run unchanged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mcdrop._fusion.placeholders import Deferred, Dropped, describes
from mcdrop._live.functorch import below_vmap
from mcdrop._live.last_layer import LastLayer
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.numpy_kernels import FLOATS
from mcdrop._masks.rows import RowLayout
from mcdrop._masks.source import MaskSource, Span, effective_rate
from mcdrop.errors import UnsupportedError

__all__ = [
    "Apply",
    "Function",
    "InPlaceError",
    "LiveDropout",
    "Pass",
    "Rule",
    "over_passes",
    "overwrite",
]

ROOT_NAME = "(root)"

# Modules that drop units in their own code: their sites bear the module's name alone.
_OWNERS = (nn.modules.dropout._DropoutNd, nn.RNNBase, nn.MultiheadAttention)

Function = Callable[..., Any]
Apply = Callable[[Tensor, DropoutMask, float], Tensor]


@dataclass
class Pass:
    """What one forward call needs to know to draw its masks, and what it saw.

    Attributes:
        rules: How functions are answered.
        source: Where masks and random numbers come from.
        opened: Whether every unit is kept, which must reproduce the plain model.
        rates: Rates by site name that override the model's own; the key "" overrides all.
        span: The passes that run in this call.
        index: The dummy index that vmap batches over the passes of a chunk, or None.
        last: Integrates the last dropout in closed form, or None.
        deferred: What was put off until it is read; None where nothing may be.
        lazy: Functions whose rules take a placeholder as their first argument.
        shared: The row dimensions, where all rows share one mask; None for independent masks.
        observed: If a list, receives what every site was given.
        flops: Counts the floating point operations so far, or None.
        modules: Modules being called, outermost first, as (path, module).
        sites: The dropout calls seen so far.
        random_calls: Number of calls so far that drew random numbers of the model's own.
        open_gates: Modules being called whose own random numbers stand for dropout.
        random_shapes: Shapes of what the calls so far drew.
        protected: Storage addresses that an in-place dropout must not write to.
        widest: Numbers per pass in the largest tensor that was dropped out at once.
        overwritten: Tensors that torch would have overwritten and that were left alone.
    """

    rules: Mapping[Function, Rule]
    source: MaskSource
    opened: bool
    rates: Mapping[str, float]
    span: Span
    index: Tensor | None = None
    last: LastLayer | None = None
    deferred: Deferred | None = None
    lazy: frozenset[Function] = frozenset()
    shared: RowLayout | None = None
    observed: list[Tensor] | None = None
    flops: Callable[[], int] | None = None
    flops_before: list[int] = field(default_factory=list)
    modules: list[tuple[str, nn.Module]] = field(default_factory=list)
    sites: list[DropoutSite] = field(default_factory=list)
    random_calls: int = 0
    open_gates: int = 0
    random_shapes: list[tuple[int, ...]] = field(default_factory=list)
    protected: frozenset[int] = frozenset()
    widest: int = 0
    overwritten: list[Tensor] = field(default_factory=list)
    _names: Counter[str] = field(default_factory=Counter)

    def site(self, kind: str, p: float, shape: tuple[int, ...]) -> DropoutSite:
        """Record the next dropout call, with the rate in force.

        Args:
            kind: Name of the operation.
            p: The model's own rate.
            shape: Shape of what is dropped out.
        """
        path, module = self.modules[-1] if self.modules else ("", None)
        base = path or ROOT_NAME
        if kind != "module" and not isinstance(module, _OWNERS):
            base = f"{base}:{kind}"
        self._names[base] += 1
        repeat = self._names[base]
        name = base if repeat == 1 else f"{base}#{repeat}"
        rate = self.rates.get(name, self.rates.get(base, self.rates.get("", p)))
        # A module that draws its own numbers may not tell its rate.
        fired = 0.0 < rate < 1.0 or (kind == "module" and math.isnan(rate))
        site = DropoutSite(name, kind, rate, len(self.sites), shape, fired)
        self.sites.append(site)
        if self.flops is not None:
            self.flops_before.append(self.flops())
        return site

    def read(self, value: Any) -> Any:
        """Return nested tuples, lists and dicts with the values of what was put off."""
        return self.deferred.read(value, self) if self.deferred else value

    def arguments(
        self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what a function is to be given: values, unless its rule takes placeholders."""
        if not self.deferred or describes(func):
            return args, kwargs
        if args and func in self.lazy:
            return (args[0], *self.read(args[1:])), self.read(kwargs)
        return self.read(args), self.read(kwargs)

    def differs(self, x: Tensor) -> bool:
        """Tell whether a tensor is batched, so that it may differ by pass."""
        return self.index is not None and torch._C._functorch.is_batchedtensor(x)

    def _refuse_inner_vmap(self, x: Tensor, kind: str) -> None:
        """Refuse dropout below a vmap of the model's own: its entries would share one mask."""
        level = torch._C._functorch.maybe_get_level(x)
        if level is None or level < 0:
            return
        own = None if self.index is None else torch._C._functorch.maybe_get_level(self.index)
        if level != own:
            raise UnsupportedError.of(
                "mcdrop",
                "model",
                "call dropout outside a vmap of its own",
                f"{kind} below torch.func.vmap in {self.modules[-1][0] or ROOT_NAME}",
                "Give the tensor its batch dimension before dropout",
            )

    def check_not_read(self, values: Any) -> None:
        """Refuse the use of a tensor that an in-place dropout should have overwritten."""
        if isinstance(values, Tensor):
            if any(values is stale for stale in self.overwritten):
                raise InPlaceError("the model reads a tensor after an in-place dropout of it")
        elif isinstance(values, tuple | list):
            for value in values:
                self.check_not_read(value)
        elif isinstance(values, dict):
            self.check_not_read(list(values.values()))

    def drop(
        self,
        x: Tensor,
        p: float,
        kind: str,
        mask_shape: tuple[int, ...],
        apply: Apply,
        *,
        may_defer: bool = False,
    ) -> Tensor:
        """Drop units of `x` at one site.

        Args:
            x: What the dropout call was given.
            p: The model's own rate.
            kind: Name of the operation.
            mask_shape: Shape of one pass's mask, broadcastable to `x`.
            apply: ``apply(x, mask, rate)``: the operation given its mask.
            may_defer: Whether the result goes straight to the model and is linear in the mask.

        Returns:
            The dropped-out tensor, of the shape and type of `x`.
        """
        self._refuse_inner_vmap(x, kind)
        site = self.site(kind, p, tuple(x.shape))
        if self.observed is not None:
            self.observed.append(x)
        if not site.fired:
            return x if site.p == 0 else torch.zeros_like(x)
        if self.last is not None and site.order == self.last.site:
            by_element = kind == "dropout" and mask_shape == tuple(x.shape)
            return self.last.hold(self.read(x), effective_rate(site.p), by_element=by_element)

        rows = None if self.shared is None else self.shared.sites[site.order]
        mask = DropoutMask(
            self.source,
            site.p,
            mask_shape,
            site.order,
            self.span,
            stacked=self.index is not None,
            rows=rows,
        )

        if may_defer and self.deferred is not None and x.ndim > 1 and x.dtype in FLOATS:
            node = self.deferred.node(x)
            values = self.read(x) if node is None or isinstance(node, Dropped) else node
            held = Dropped(values, None if self.opened else mask, effective_rate(site.p))
            return self.deferred.put(held, x)
        x = self.read(x)
        self.widest = max(self.widest, x.numel())

        def masked(values: Tensor) -> Tensor:
            """Apply the chunk's masks to `values`, passes first where there are several."""
            if self.opened:
                keep = torch.ones((self.span.count, *mask_shape), dtype=torch.bool, device=x.device)
                return torch.where(keep if self.index is not None else keep[0], values, 0)
            return apply(values, mask, effective_rate(site.p))

        (result,) = over_passes(
            self,
            lambda _, tensors: (masked(tensors[0]),),
            lambda tensors: (masked(tensors[0]),),
            (x,),
        )
        return result


def overwrite(current: Pass, x: Tensor, dropped: Tensor) -> Tensor:
    """Do what an in-place dropout does, unless that would write into the caller's tensors.

    Where it would, or where vmap cannot write what differs by pass into what does not, `x` stays
    as it is and the mode watches whether the model reads it again.
    """
    batched = torch._C._functorch.is_batchedtensor(x)
    if current.index is not None and not batched:
        current.overwritten.append(x)
        return dropped
    if not batched and x.untyped_storage().data_ptr() in current.protected:
        current.overwritten.append(x)
        return dropped
    return x.copy_(dropped)


class InPlaceError(RuntimeError):
    """A model reads a tensor that an in-place dropout should have overwritten, but did not."""


Rule = Callable[[Pass, Function, tuple[Any, ...], dict[str, Any]], Any]


def over_passes(
    current: Pass,
    together: Callable[[Sequence[bool], Sequence[Tensor]], tuple[Tensor, ...] | None],
    alone: Callable[[Sequence[Tensor]], tuple[Tensor, ...]],
    tensors: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Compute something for all passes of a chunk at once, below the vmap that batches them.

    Args:
        current: The pass.
        together: ``together(batched, tensors)``: the tensors with passes first, (s, ...) where
            they differ by pass and (1, ...) where they do not; returns results (s, ...), or None
            if they do not differ by pass.
        alone: The same for one pass, or for tensors that do not differ by pass.
        tensors: The inputs as the model sees them.

    Returns:
        Results as the model sees them.
    """
    if current.index is None:
        return alone(tensors)
    return below_vmap(current.index, together, alone, tensors)


class LiveDropout(TorchFunctionMode):
    """Answers the functions that the pass has rules for and lets every other one through."""

    def __init__(self, current: Pass) -> None:
        super().__init__()
        self._current = current

    def __torch_function__(
        self,
        func: Function,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `func`, through its rule if it has one; torch disables the mode meanwhile."""
        if self._current.overwritten:
            self._current.check_not_read((args, kwargs))
        if self._current.last is not None:
            self._current.last.watch(func, args, kwargs or {})
        args, kwargs = self._current.arguments(func, args, kwargs or {})
        rule = self._current.rules.get(func)
        if rule is None:
            return func(*args, **kwargs)
        return rule(self._current, func, args, kwargs)
