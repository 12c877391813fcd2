"""Attention: the fused functions hide their dropout, so the explicit form runs instead."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.functorch import aten, multi_head_body
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules.dropout import drop_elements
from mcdrop._live.rules.multi_head import multi_head_attention

__all__ = ["attention_rules", "plain_attention_rules"]

_SDPA_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")

# Place of the `training` argument.
_TRAINING = list(inspect.signature(F.multi_head_attention_forward).parameters).index("training")
# Over fewer numbers than a register holds, torch's softmax takes four times as long on a CPU.
_SHORT = 15
_multi_head_body = multi_head_body() or multi_head_attention


def attention_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    scaled_dot_product = (F.scaled_dot_product_attention, *aten("scaled_dot_product_attention"))
    return {
        F.multi_head_attention_forward: _multi_head,
        **dict.fromkeys(scaled_dot_product, _scaled_dot_product),
    }


def plain_attention_rules() -> dict[TorchFunction, Rule]:
    """Return the rules that switch dropout off in the same functions."""
    scaled_dot_product = (F.scaled_dot_product_attention, *aten("scaled_dot_product_attention"))
    return {
        F.multi_head_attention_forward: _multi_head_off,
        **dict.fromkeys(scaled_dot_product, _scaled_dot_product_off),
    }


def _multi_head(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run multi-head attention as in training: only its dropout depends on that flag."""
    args, kwargs = _with_training(args, kwargs, True)
    with LiveDropout(call):
        return _multi_head_body(*args, **kwargs)


def _multi_head_off(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    args, kwargs = _with_training(args, kwargs, False)
    return func(*args, **kwargs)


def _with_training(
    args: tuple[Any, ...], kwargs: dict[str, Any], training: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Set the `training` argument, wherever it was given."""
    if len(args) > _TRAINING:
        return (*args[:_TRAINING], training, *args[_TRAINING + 1 :]), kwargs
    return args, {**kwargs, "training": training}


def _scaled_dot_product(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Softmax attention with dropout on its weights; without dropout the fused kernel."""
    bound = dict(zip(_SDPA_NAMES, args, strict=False)) | kwargs
    if bound.get("dropout_p", 0.0) == 0.0:
        return _without_dropout(call, func, bound)
    query, key, value = bound["query"], bound["key"], bound["value"]
    if bound.get("enable_gqa", False):
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, dim=-3) for x in (key, value))
    scale = bound.get("scale")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    mask = bound.get("attn_mask")
    scores = _masked(scores, mask, bool(bound.get("is_causal", False)))
    weights = _softmax(scores)
    if mask is not None:
        # A row that may attend to nothing is zero in the fused kernel rather than NaN.
        nothing = (scores == -math.inf).all(dim=-1, keepdim=True)
        weights = weights.masked_fill(nothing, 0.0)
    weights = drop_elements(call, weights, float(bound["dropout_p"]), "attention")
    return weights.to(value.dtype) @ value


def _softmax(scores: Tensor) -> Tensor:
    """Return the softmax along the last dimension."""
    if scores.shape[-1] > _SHORT or scores.device.type != "cpu":
        return torch.softmax(scores, dim=-1)
    odds = (scores - scores.amax(dim=-1, keepdim=True)).exp_()
    return odds / odds.sum(dim=-1, keepdim=True)


def _without_dropout(call: Call, func: TorchFunction, bound: dict[str, Any]) -> Tensor:
    """Call the fused kernel once, with passes folded into the batch dimension."""
    mask = bound.get("attn_mask")
    options = {k: v for k, v in bound.items() if k not in {"query", "key", "value", "attn_mask"}}
    tensors = tuple(bound[name] for name in _SDPA_NAMES[:3])

    def alone(each: Sequence[Tensor]) -> tuple[Tensor, ...]:
        given = each[3] if len(each) > 3 else None
        return (func(*each[:3], attn_mask=given, **options),)

    def together(batched: Sequence[bool], each: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        if not any(batched):
            return None
        n_passes, n_rows = call.span.count, each[0].shape[1]
        folded = [_folded(x, n_passes, n_rows, each[0].ndim) for x in each]
        return (alone(folded)[0].unflatten(0, (n_passes, n_rows)),)

    if call.index is None or tensors[0].ndim < 3:
        return alone((*tensors, mask) if mask is not None else tensors)[0]
    (result,) = call.over_passes(together, alone, (*tensors, mask) if mask is not None else tensors)
    return result


def _folded(x: Tensor, n_passes: int, n_rows: int, ndim: int) -> Tensor:
    """Turn (s or 1, ...) into (n_passes * n_rows, ...), broadcasting a mask of fewer dimensions."""
    x = x.reshape(x.shape[0], *(1 for _ in range(ndim - x.ndim)), *x.shape[1:])
    return x.expand(n_passes, n_rows, *x.shape[2:]).flatten(0, 1)


def _scaled_dot_product_off(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    bound = dict(zip(_SDPA_NAMES, args, strict=False)) | kwargs
    query, key, value = (bound.pop(name) for name in _SDPA_NAMES[:3])
    rate = float(bound.get("dropout_p", 0.0))
    if rate:
        call.site("attention", rate, (*query.shape[:-1], key.shape[-2]))
    return func(query, key, value, **{**bound, "dropout_p": 0.0})


def _masked(scores: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """Add a float mask, or close what a boolean or causal mask excludes."""
    if is_causal:
        shape = scores.shape[-2:]
        allowed = torch.ones(shape, dtype=torch.bool, device=scores.device).tril()
        return scores.masked_fill(~allowed, -math.inf)
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -math.inf)
    return scores + mask
