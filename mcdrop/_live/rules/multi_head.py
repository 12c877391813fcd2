"""Multi-head attention written out, for a torch whose own code cannot run with the mode on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["multi_head_attention"]


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute what ``F.multi_head_attention_forward`` documents for these arguments.

    Source:
        Vaswani et al. (2017), section 3.2.2.
    """
    batched = query.ndim == 3
    if not batched:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
    length, n_rows, width = query.shape
    weights: tuple[Tensor | None, ...] = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight and in_proj_weight is not None:
        weights = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, weight, bias)  # type: ignore[arg-type]
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    if bias_k is not None and bias_v is not None:
        k, v = (torch.cat([x, b.expand(1, n_rows, -1)]) for x, b in ((k, bias_k), (v, bias_v)))
    q, k, v = (x.reshape(x.shape[0], -1, width // num_heads).transpose(0, 1) for x in (q, k, v))
    k = k if static_k is None else static_k
    v = v if static_v is None else static_v
    if add_zero_attn:
        k, v = (torch.cat([x, x.new_zeros(x.shape[0], 1, x.shape[2])], dim=1) for x in (k, v))
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(1, 2)
    if attn_mask is not None:
        scores = scores + _wide_as(_additive(attn_mask, scores), scores)
    if key_padding_mask is not None:
        closed = _additive(key_padding_mask, scores).unsqueeze(1).repeat_interleave(num_heads, 0)
        scores = scores + _wide_as(closed, scores)
    attention = F.dropout(scores.softmax(dim=-1), dropout_p, training)
    mixed = (attention @ v).transpose(0, 1).reshape(length * n_rows, width)
    out = F.linear(mixed, out_proj_weight, out_proj_bias).view(length, n_rows, -1)
    by_head = attention.view(n_rows, num_heads, length, -1)
    shown = (by_head.mean(dim=1) if average_attn_weights else by_head) if need_weights else None
    if batched:
        return out, shown
    return out.squeeze(1), None if shown is None else shown.squeeze(0)


def _wide_as(mask: Tensor, scores: Tensor) -> Tensor:
    """Leave open what a mask says nothing of: the rows that were added to the keys."""
    return F.pad(mask, (0, scores.shape[-1] - mask.shape[-1]))


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """Return a mask that is added to the scores: -inf where a boolean one is True."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    mask_added: Tensor = torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
    return mask_added
