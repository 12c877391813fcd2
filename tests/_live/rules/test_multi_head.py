"""Multi-head attention written out: what torch's own code returns, and its dropout alive."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mcdrop._live.rules import attention
from mcdrop._live.rules.multi_head import multi_head_attention
from tests.passes import draw

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("is_batched", [True, False])
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("mask", [None, "boolean", "float", "by head"])
@pytest.mark.parametrize("kind", ["plain", "key widths", "extra rows", "no bias"])
def test_multi_head_attention_written_out_equals_torchs(
    is_batched: bool, average: bool, mask: str | None, kind: str
) -> None:
    torch.manual_seed(1)
    options = {
        "plain": {},
        "key widths": {"kdim": 4, "vdim": 5},
        "extra rows": {"add_bias_kv": True, "add_zero_attn": True},
        "no bias": {"bias": False},
    }[kind]
    layer = nn.MultiheadAttention(8, 2, **options).eval()  # type: ignore[arg-type]
    length, source, rows = 4, 6, (3,) if is_batched else ()
    query = torch.randn(length, *rows, 8)
    key = torch.randn(source, *rows, 4 if kind == "key widths" else 8)
    value = torch.randn(source, *rows, 5 if kind == "key widths" else 8)
    n_maps = 2 * (3 if is_batched else 1)
    masks = {
        None: None,
        "boolean": torch.rand(length, source) > 0.7,
        "float": torch.randn(length, source),
        "by head": torch.randn(n_maps, length, source),
    }
    padding = torch.zeros(*rows, source, dtype=torch.bool)
    padding[..., -1] = mask == "boolean"
    arguments = (
        query, key, value, 8, 2, layer.in_proj_weight, layer.in_proj_bias,
        layer.bias_k, layer.bias_v, layer.add_zero_attn, 0.3,
        layer.out_proj.weight, layer.out_proj.bias,
    )  # fmt: skip
    named = {
        "training": False,
        "key_padding_mask": padding,
        "attn_mask": masks[mask],
        "use_separate_proj_weight": kind == "key widths",
        "q_proj_weight": layer.q_proj_weight,
        "k_proj_weight": layer.k_proj_weight,
        "v_proj_weight": layer.v_proj_weight,
        "average_attn_weights": average,
    }
    if mask not in {None, "boolean"}:
        named["key_padding_mask"] = None
    found = multi_head_attention(*arguments, **named)  # type: ignore[arg-type]
    expected = F.multi_head_attention_forward(*arguments, **named)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected)


def test_without_torchs_code_attention_still_drops_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True).eval()
    x = X.view(1, 5, 8)
    expected, _ = draw(model, (x, x, x), 20, select=0)
    monkeypatch.setattr(attention, "_multi_head_body", multi_head_attention)
    found, run = draw(model, (x, x, x), 20, select=0)
    assert [site.kind for site in run.sites] == ["dropout"]
    # The weights are dropped out in the same order, so the masks are the same.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
