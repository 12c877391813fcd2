"""Dropout functions: all six, as torch.nn.functional, torch and exported programs call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._live.mode import Apply, Function, Pass, Rule, overwrite
from mcdrop._masks.mask import DropoutMask

__all__ = ["drop_elements", "dropout_rules", "plain_dropout_rules"]

# Saturation value of SELU, -scale * alpha: where alpha dropout sends a dropped unit
# (Klambauer et al. 2017, section "new dropout technique"; the constant is torch's).
_ALPHA = 1.7580993408473766
_INPLACE = 3


def _scaled(x: Tensor, mask: DropoutMask, rate: float) -> Tensor:
    """Inverted dropout: dropped units are zero, survivors grow so that the mean stays."""
    scale = 1.0 / (1.0 - rate)
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
        current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        x, p = _input_and_rate(args, kwargs)
        # The inactive call raises torch's own errors for a bad rate or a bad number of dimensions.
        if has_inplace:
            func(x, p, False, False)
        in_place = writes or bool(kwargs.get("inplace", len(args) > _INPLACE and args[_INPLACE]))
        may_defer = apply is _scaled and not in_place and not torch.is_grad_enabled()
        x = x if may_defer else current.read(x)
        dropped = current.drop(x, p, kind, mask_shape(x), apply, may_defer=may_defer)
        return overwrite(current, x, dropped) if in_place and dropped is not x else dropped

    return rule


def drop_elements(current: Pass, x: Tensor, p: float, kind: str) -> Tensor:
    """Drop single elements of a tensor inside a larger operation."""
    return current.drop(x, p, kind, _elementwise(x), _scaled)


def _input_and_rate(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, float]:
    """Return the first two parameters of any dropout function, by position or by name."""
    x = args[0] if args else kwargs["input"]
    return x, float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))


def dropout_rules() -> dict[Function, Rule]:
    """Return the rules by function."""
    rules: dict[Function, Rule] = {
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
            rules[getattr(torch.ops.aten, name).default] = rule
    return rules


def plain_dropout_rules() -> dict[Function, Rule]:
    """Return the rules that switch the same functions off."""
    return dict.fromkeys(dropout_rules(), _off)


def _off(current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return _input_and_rate(args, kwargs)[0]
