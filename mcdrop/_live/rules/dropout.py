"""Dropout functions: all six, as torch.nn.functional, torch and exported programs call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._fusion.placeholders import Dropped
from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.checkpointing import is_checkpointed
from mcdrop._live.functorch import (
    aten,
    is_below_other_vmap,
    is_differentiated,
    undifferentiated,
    writes,
)
from mcdrop._live.memory import address
from mcdrop._live.rules.in_place import make_room
from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.numpy_kernels import FLOATS
from mcdrop._masks.source import effective_rate
from mcdrop.errors import UnsupportedError

__all__ = ["drop", "drop_elements", "dropout_rules", "plain_dropout_rules"]

# Given values, their mask and its rate.
Apply = Callable[[Tensor, DropoutMask, float], Tensor]

# Saturation value of SELU, -scale * alpha: where alpha dropout sends a dropped unit
# (Klambauer et al. 2017, section "new dropout technique"; the constant is torch's).
_ALPHA = 1.7580993408473766
_INPLACE = 3


def drop(
    call: Call,
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
        call: The forward call.
        x: What the dropout call was given.
        p: The model's own rate.
        kind: Name of the operation.
        mask_shape: Shape of one pass's mask, broadcastable to `x`.
        apply: ``apply(x, mask, rate)``: the operation given its mask.
        may_defer: Whether the result goes straight to the model and is linear in the mask.

    Returns:
        The dropped-out tensor, of the shape and type of `x`.
    """
    _refuse_inner_vmap(call, x, kind)
    site = call.site(kind, p, tuple(x.shape))
    if call.seen.dropped is not None:
        call.seen.dropped.append(x)
    if x.numel() == 0:
        return x
    if call.gradients and site.fired and is_checkpointed():
        call.seen.checkpointed = site.name
    if not site.fired:
        return x if site.p == 0 else torch.zeros_like(x)
    rate = effective_rate(site.p)
    if call.last is not None and site.order == call.last.site:
        by_element = kind == "dropout" and mask_shape == tuple(x.shape)
        drawn = call.mask(site, mask_shape) if call.last.redraws else None
        return call.last.hold(call.read(x), rate, drawn, by_element=by_element)
    mask = call.mask(site, mask_shape)
    if call.multipliers is not None and apply is _scaled:
        return call.multipliers.times(x, mask, rate)
    if may_defer and call.placeholders is not None and x.ndim > 1 and x.dtype in FLOATS:
        before = call.placeholders.deferred(x)
        values = call.read(x) if before is None or isinstance(before, Dropped) else before
        dropped = Dropped(values, None if call.opened else mask, rate, writes)
        return call.placeholders.put(dropped, x)
    x = call.read(x)
    call.seen.widest = max(call.seen.widest, x.numel())

    def masked(values: Tensor) -> Tensor:
        """Apply the masks of all passes to `values`, passes first where there are several."""
        if call.opened:
            keep = torch.ones((call.span.count, *mask_shape), dtype=torch.bool, device=x.device)
            return torch.where(keep if call.index is not None else keep[0], values, 0)
        return apply(values, mask, rate)

    (result,) = call.over_passes(
        lambda _, tensors: (masked(tensors[0]),),
        lambda tensors: (masked(tensors[0]),),
        (x,),
    )
    return result


def drop_elements(call: Call, x: Tensor, p: float, kind: str) -> Tensor:
    """Drop single elements of a tensor inside a larger operation."""
    return drop(call, x, p, kind, _elementwise(x), _scaled)


def _refuse_inner_vmap(call: Call, x: Tensor, kind: str) -> None:
    """Refuse dropout below a vmap of the model's own: its entries would share one mask.

    Dropout that the model differentiates with `torch.func` runs in one pass at a time.
    """
    if call.index is not None and is_differentiated(x):
        raise RuntimeError("torch.func differentiates through its dropout")
    if is_below_other_vmap(x, call.index):
        raise UnsupportedError.of(
            "mcdrop",
            "model",
            "call dropout outside a vmap of its own",
            f"{kind} below torch.func.vmap in {call.seen.module_path}",
            "Give the tensor its batch dimension before dropout",
        )


def _overwrite(call: Call, x: Tensor, dropped: Tensor) -> Tensor:
    """Do what an in-place dropout does, unless that would write into the caller's tensors.

    Where it would, or where vmap cannot write a batched result into a tensor that others share,
    `x` stays as it is and the mode watches whether the model reads it again.
    """
    writable = make_room(call, x) if call.index is not None else address(x) not in call.protected
    if writable:
        return x.copy_(dropped)
    call.seen.overwritten.append(x)
    return dropped


def _scaled(x: Tensor, mask: DropoutMask, rate: float) -> Tensor:
    """Inverted dropout: dropped units are zero, survivors grow so that the mean stays."""
    scale = 1.0 / (1.0 - rate)
    if is_differentiated(x):
        with undifferentiated():
            keep = mask.keep()
        return torch.where(keep, x * scale, 0)
    if torch.is_grad_enabled():
        return torch.where(mask.keep(), x * scale, 0)
    return mask.times(x, scale)


def _alpha(x: Tensor, mask: DropoutMask, rate: float) -> Tensor:
    """Alpha dropout: an affine map restores zero mean and unit variance after saturation."""
    a = ((1.0 - rate) * (1.0 + rate * _ALPHA**2)) ** -0.5
    return torch.where(mask.keep(), x, -_ALPHA) * a + a * _ALPHA * rate


def _elementwise(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)


def _by_channel(x: Tensor) -> tuple[int, ...]:
    return (*x.shape[:2], *(1 for _ in x.shape[2:]))


def _by_channel_of(batched_ndim: int) -> Callable[[Tensor], tuple[int, ...]]:
    """Whole channels of (N, C, ...), or of an unbatched (C, ...) one dimension short."""

    def shape(x: Tensor) -> tuple[int, ...]:
        if x.ndim == batched_ndim - 1:
            return (x.shape[0], *(1 for _ in x.shape[1:]))
        return _by_channel(x)

    return shape


def _rule(
    kind: str,
    mask_shape: Callable[[Tensor], tuple[int, ...]],
    apply: Apply,
    *,
    has_inplace: bool,
    writes: bool = False,
) -> Rule:
    """Make the rule for ``f(input, p, training[, inplace])``, or for ``f_``, which writes."""

    def rule(
        call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        x, p = _input_and_rate(args, kwargs)
        # The inactive call raises torch's own errors for a bad rate or a bad number of dimensions.
        if has_inplace:
            func(x, p, False, False)
        in_place = writes or bool(kwargs.get("inplace", len(args) > _INPLACE and args[_INPLACE]))
        may_defer = apply is _scaled and not in_place and not torch.is_grad_enabled()
        x = x if may_defer else call.read(x)
        dropped = drop(call, x, p, kind, mask_shape(x), apply, may_defer=may_defer)
        return _overwrite(call, x, dropped) if in_place and dropped is not x else dropped

    return rule


def _input_and_rate(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, float]:
    """Return the first two parameters of any dropout function, by position or by name."""
    x = args[0] if args else kwargs["input"]
    return x, float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))


def dropout_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    rules: dict[TorchFunction, Rule] = {
        F.dropout: _rule("dropout", _elementwise, _scaled, has_inplace=True),
        F.dropout1d: _rule("dropout1d", _by_channel_of(3), _scaled, has_inplace=True),
        # A 3-D input of dropout2d is read as (N, C, L), as torch documents.
        F.dropout2d: _rule("dropout2d", _by_channel, _scaled, has_inplace=True),
        F.dropout3d: _rule("dropout3d", _by_channel_of(5), _scaled, has_inplace=True),
        F.alpha_dropout: _rule("alpha_dropout", _elementwise, _alpha, has_inplace=True),
        F.feature_alpha_dropout: _rule(
            "feature_alpha_dropout", _by_channel, _alpha, has_inplace=True
        ),
    }
    low_level = {
        "dropout": (_elementwise, _scaled),
        "feature_dropout": (_by_channel, _scaled),
        "alpha_dropout": (_elementwise, _alpha),
        "feature_alpha_dropout": (_by_channel, _alpha),
    }
    for kind, (mask_shape, apply) in low_level.items():
        for name in (kind, f"{kind}_"):
            rule = _rule(kind, mask_shape, apply, has_inplace=False, writes=name.endswith("_"))
            rules[getattr(torch, name)] = rule
            # What torch.export leaves of a dropout call.
            rules.update(dict.fromkeys(aten(name), rule))
    return rules


def plain_dropout_rules() -> dict[TorchFunction, Rule]:
    """Return the rules that switch the same functions off, and note their calls."""
    return {func: _off(_kind_of(func)) for func in dropout_rules()}


def _kind_of(func: TorchFunction) -> str:
    """Return the name of an operation, without the overload and the underscore of in-place."""
    name = getattr(func, "__name__", str(func).rpartition(".")[2])
    return name.partition(".")[0].rstrip("_")


def _off(kind: str) -> Rule:
    def rule(
        call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        x, p = _input_and_rate(args, kwargs)
        call.site(kind, p, tuple(x.shape))
        return x

    return rule
