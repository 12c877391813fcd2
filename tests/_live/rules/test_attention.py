"""Attention: the explicit form is the fused kernel, but for the weights that it drops."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules import PLAIN
from tests._live.rules.calls import AfterDropout, Function, call_of, opened
from tests.passes import draw

GENERATOR = torch.Generator().manual_seed(0)
QUERY = torch.randn(2, 4, 5, 6, generator=GENERATOR)
KEY = torch.randn(2, 4, 7, 6, generator=GENERATOR)
VALUE = torch.randn(2, 4, 7, 3, generator=GENERATOR)
ALLOWED = torch.rand(5, 7, generator=GENERATOR) > 0.4
ALLOWED[:, 0] = True
NOTHING = ALLOWED.clone()
NOTHING[2] = False

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale": {"scale": 0.3},
    "causal": {"is_causal": True},
    "boolean": {"attn_mask": ALLOWED},
    "additive": {"attn_mask": torch.randn(5, 7, generator=GENERATOR)},
    "mask by row": {"attn_mask": torch.randn(2, 1, 5, 7, generator=GENERATOR)},
    "mask by key": {"attn_mask": ALLOWED[:1]},
    "attends to nothing": {"attn_mask": NOTHING},
}
if bool(F.scaled_dot_product_attention(QUERY, KEY, VALUE, attn_mask=NOTHING).isnan().any()):
    # Torch 2.4 returns NaN for a query that may attend to nothing.
    del OPTIONS["attends to nothing"]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_with_every_weight_kept_it_is_the_fused_kernel(options: dict[str, Any]) -> None:
    def attend(dropout_p: float) -> Tensor:
        return F.scaled_dot_product_attention(QUERY, KEY, VALUE, dropout_p=dropout_p, **options)

    torch.testing.assert_close(opened(attend, 0.4), attend(0.0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [1, 15, 16])
def test_weights_are_the_softmax_for_any_number_of_keys(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(2, length, 6, generator=generator, requires_grad=True) for _ in range(3))

    def attend(dropout_p: float) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)

    explicit, fused = opened(attend, 0.4), attend(0.0)
    torch.testing.assert_close(explicit, fused, rtol=1e-5, atol=1e-6)
    for each, expected in zip(
        *(torch.autograd.grad(x.square().sum(), (q, k, v)) for x in (explicit, fused)), strict=True
    ):
        torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5)


def test_a_query_that_may_attend_to_nothing_returns_zero() -> None:
    out = opened(
        lambda: F.scaled_dot_product_attention(QUERY, KEY, VALUE, attn_mask=NOTHING, dropout_p=0.4)
    )
    assert bool((out[..., 2, :] == 0).all())
    assert bool((out[..., 3, :] != 0).all())


def test_arguments_may_come_by_position() -> None:
    found = opened(lambda: F.scaled_dot_product_attention(QUERY, KEY, VALUE, ALLOWED, 0.4))
    expected = F.scaled_dot_product_attention(QUERY, KEY, VALUE, ALLOWED)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(
    "enable_gqa" not in str(F.scaled_dot_product_attention.__doc__), reason="needs torch 2.5"
)
def test_grouped_queries_share_keys() -> None:
    def attend(dropout_p: float) -> Tensor:
        return F.scaled_dot_product_attention(
            QUERY, KEY[:, :2], VALUE[:, :2], dropout_p=dropout_p, enable_gqa=True
        )

    torch.testing.assert_close(opened(attend, 0.4), attend(0.0), rtol=1e-5, atol=1e-6)
    key, value = (x[:, [0, 0, 1, 1]] for x in (KEY, VALUE))
    shared = F.scaled_dot_product_attention(QUERY, key, value)
    torch.testing.assert_close(opened(attend, 0.4), shared, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_weights_are_dropped_after_the_softmax(strategy: Any) -> None:
    # With the identity for values, the output is the matrix of weights.
    values = torch.eye(7).expand(2, 4, 7, 7)

    def attend(query: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, KEY, values, dropout_p=0.25)

    found, run = draw(Function(attend), QUERY, 64, strategy)
    assert [(site.kind, site.shape) for site in run.sites] == [("attention", (2, 4, 5, 7))]
    weights = (QUERY @ KEY.transpose(-2, -1) / 6**0.5).softmax(dim=-1)
    torch.testing.assert_close(found, torch.where(found == 0, 0, weights / 0.75))
    # Stratified at p = 1/4: every weight is dropped in 16 of the 64 passes.
    assert bool(((found == 0).sum(dim=0) == 16).all())


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_without_dropout_of_its_own_all_passes_go_through_the_kernel_at_once(
    options: dict[str, Any],
) -> None:
    model = AfterDropout(lambda x: F.scaled_dot_product_attention(x, KEY, VALUE, **options))
    found, run = draw(model, QUERY, 16, "vectorized")
    assert [site.kind for site in run.sites] == ["dropout"]
    torch.testing.assert_close(found, draw(model, QUERY, 16, "sequential")[0])


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6)])
def test_inputs_of_fewer_dimensions(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = AfterDropout(lambda x: F.scaled_dot_product_attention(x, x, x))
    found, _ = draw(model, x, 16, "vectorized")
    torch.testing.assert_close(found, draw(model, x, 16, "sequential")[0])


def test_the_plain_rules_switch_a_rate_off_that_is_asked_for_in_eval_mode() -> None:
    plain, live = call_of(opened=True, rules=PLAIN), call_of(opened=True)
    with LiveDropout(plain):
        found = F.scaled_dot_product_attention(QUERY, KEY, VALUE, dropout_p=0.5)
    assert torch.equal(found, F.scaled_dot_product_attention(QUERY, KEY, VALUE))
    with LiveDropout(live):
        F.scaled_dot_product_attention(QUERY, KEY, VALUE, dropout_p=0.5)
    assert len(live.seen.sites) == 1
    assert plain.seen.sites == live.seen.sites


@pytest.mark.parametrize("by_position", [True, False])
def test_multi_head_attention_drops_whatever_its_training_flag_says(by_position: bool) -> None:
    layer = nn.MultiheadAttention(8, 2, dropout=0.5).eval()
    x = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(2))
    names = list(inspect.signature(F.multi_head_attention_forward).parameters)
    given: list[Any] = [
        x, x, x, 8, 2, layer.in_proj_weight, layer.in_proj_bias, None, None, False, 0.5,
        layer.out_proj.weight, layer.out_proj.bias,
    ]  # fmt: skip
    assert names[len(given)] == "training"
    flag: dict[str, Any] = {} if by_position else {"training": False}
    positional = [*given, False] if by_position else given

    def attend() -> Any:
        return F.multi_head_attention_forward(*positional, **flag)

    expected = attend()
    torch.testing.assert_close(opened(attend), expected)
    with LiveDropout(call_of(opened=True, rules=PLAIN)):
        torch.testing.assert_close(attend(), expected)
    with LiveDropout(call_of(opened=False)):
        weights = attend()[1]
    # Two heads are averaged: a weight is dropped in neither, one or both.
    assert not torch.allclose(weights, expected[1])
