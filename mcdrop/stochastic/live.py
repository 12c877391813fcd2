"""Dropout kept alive: a function mode that answers dropout calls while the model stays in eval().

The mode belongs to the thread that enters it. It sees every torch function the model calls; the
ones listed in `rules` are answered with random masks, all others run unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mcdrop.stochastic.masks import MaskSource, Span, effective_rate
from mcdrop.stochastic.sites import DropoutSite

__all__ = ["LiveDropout", "Pass", "Rule", "track_names"]

ROOT_NAME = "(root)"


@dataclass
class Pass:
    """What one forward call needs to know to draw its masks, and what it saw.

    Attributes:
        source: Where masks come from; None keeps every unit, which must reproduce the plain model.
        rates: Rates by site name that override the model's own; the key "" overrides all.
        batch: Number of the row batch.
        first: First pass of the chunk.
        count: Passes in the chunk; 1 when one pass runs alone.
        index: The dummy index that vmap batches over the passes of a chunk, or None.
        modules: Modules being called, outermost first, as (path, module).
        sites: The dropout calls seen so far.
    """

    source: MaskSource | None
    rates: Mapping[str, float]
    span: Span
    index: Tensor | None = None
    modules: list[tuple[str, nn.Module]] = field(default_factory=list)
    sites: list[DropoutSite] = field(default_factory=list)
    _names: Counter[str] = field(default_factory=Counter)

    def drop(
        self,
        x: Tensor,
        p: float,
        kind: str,
        mask_shape: tuple[int, ...],
        apply: Callable[[Tensor, Tensor, float], Tensor],
    ) -> Tensor:
        """Drop units of `x` at one site.

        Args:
            x: What the dropout call was given.
            p: The model's own rate.
            kind: Name of the operation.
            mask_shape: Shape of one pass's mask, broadcastable to `x`.
            apply: ``apply(x, keep, rate)``: the operation given its mask.

        Returns:
            The dropped-out tensor, of the shape and type of `x`.
        """
        name, base = self._name(kind)
        rate = self.rates.get(name, self.rates.get(base, self.rates.get("", p)))
        order = len(self.sites)
        fired = 0.0 < rate < 1.0
        self.sites.append(DropoutSite(name, kind, rate, order, tuple(x.shape), fired))
        if not fired:
            return x if rate == 0 else apply(x, x.new_zeros((), dtype=torch.bool), 1.0)

        def masked(values: Tensor) -> Tensor:
            """Apply the chunk's masks to `values`, passes first where there are several."""
            if self.source is None:
                keep = torch.ones((self.span.count, *mask_shape), dtype=torch.bool, device=x.device)
                return torch.where(keep if self.index is not None else keep[0], values, 0)
            keep = self.source.keep(rate, mask_shape, order, self.span)
            aligned = keep if self.index is not None else keep[0]
            return apply(values, aligned, effective_rate(rate))

        if self.index is None:
            return masked(x)
        result: Tensor = _OverPasses.apply(x, self.index, masked)  # type: ignore[no-untyped-call]
        return result

    def _name(self, kind: str) -> tuple[str, str]:
        """Name the next site after the module that is running: (unique name, name of all calls)."""
        path, module = self.modules[-1] if self.modules else ("", None)
        base = path or ROOT_NAME
        if not isinstance(module, nn.modules.dropout._DropoutNd):
            base = f"{base}:{kind}"
        self._names[base] += 1
        repeat = self._names[base]
        return (base if repeat == 1 else f"{base}#{repeat}"), base


class _OverPasses(torch.autograd.Function):
    """Hands a dropout site the tensor of all passes at once, passes first, whatever vmap batched.

    Only the vmap rule ever runs: the index argument is always batched.
    """

    @staticmethod
    def forward(x: Tensor, index: Tensor, masked: Callable[[Tensor], Tensor]) -> Tensor:
        return masked(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: vectorised passes run without gradients."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        index: Tensor,
        masked: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, int]:
        batched = x.unsqueeze(0) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        return masked(batched), 0


Rule = Callable[[Pass, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class LiveDropout(TorchFunctionMode):
    """Answers the functions in `rules` and lets every other torch function through."""

    def __init__(self, current: Pass, rules: Mapping[Callable[..., Any], Rule]) -> None:
        super().__init__()
        self._current = current
        self._rules = rules

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `func`, through its rule if it has one; torch disables the mode meanwhile."""
        rule = self._rules.get(func)
        if rule is None:
            return func(*args, **(kwargs or {}))
        return rule(self._current, func, args, kwargs or {})


def track_names(twin: nn.Module, modules: list[tuple[str, nn.Module]]) -> None:
    """Keep `modules` equal to the stack of calls in progress, by hooks on a structural copy."""
    for path, module in twin.named_modules():
        entry = (path, module)
        module.register_forward_pre_hook(lambda _m, _a, entry=entry: modules.append(entry))
        module.register_forward_hook(lambda *_: _leave(modules), always_call=True)


def _leave(modules: list[tuple[str, nn.Module]]) -> None:
    modules.pop()
