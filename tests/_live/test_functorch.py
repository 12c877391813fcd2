"""The door to torch's private names: all are there, and each has a way out that works."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.flops import FlopCounter
from mcdrop._live import functorch
from mcdrop._live.rules import attention
from mcdrop._live.rules.multi_head import multi_head_attention
from tests.passes import draw

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def test_the_installed_torch_has_every_private_name() -> None:
    missing = functorch.missing_names()
    assert not missing, f"torch {torch.__version__} lacks {', '.join(missing)}"


def mlp() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 8), nn.Dropout(0.3))
    return nn.Sequential(*layers, nn.Linear(8, 2)).eval()


MODELS: dict[str, tuple[nn.Module, Tensor]] = {
    "mlp": (mlp(), X),
    "lstm": (nn.LSTM(8, 6, num_layers=2, dropout=0.4).eval(), X.view(5, 1, 8)),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2).eval(), X.view(5, 1, 8)),
    "in place": (nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5, inplace=True)).eval(), X),
}


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype stage:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_without_vmap_levels_the_public_way_gives_the_same_passes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = MODELS[name]
    select = 0 if name == "lstm" else None
    expected, _ = draw(model, x, 20, select=select)
    monkeypatch.setattr(functorch, "_DIRECT", False)
    found, run = draw(model, x, 20, select=select)
    assert run.strategy == "vectorized", run.reason
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_dropout_below_a_vmap_of_the_model_is_refused_either_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = torch.func.vmap(lambda row: F.dropout(row, 0.5, True))(x)
            return out

    with pytest.raises(mcdrop.UnsupportedError, match="call dropout outside a vmap of its own"):
        mcdrop.wrap(Inner()).sample(X, 4)
    monkeypatch.setattr(functorch, "_DIRECT", False)
    with pytest.raises(RuntimeError, match="storage|vmap"):
        mcdrop.wrap(Inner()).sample(X, 4)


def test_whether_a_tensor_is_batched_is_told_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(index: Tensor) -> Tensor:
        batched = [functorch.is_batched(x, index) for x in (index, X, X * index)]
        assert batched == [True, False, True]
        return index

    torch.func.vmap(told)(torch.arange(3))
    monkeypatch.setattr(functorch, "_DIRECT", False)
    torch.func.vmap(told)(torch.arange(3))


def test_writes_are_seen_below_vmap() -> None:
    x = torch.zeros(2, 3)
    before = functorch.writes(x)
    x.add_(1)
    assert functorch.writes(x) == before + 1

    def below(index: Tensor) -> Tensor:
        y = index + x
        before = functorch.writes(y)
        y.mul_(2)
        assert functorch.writes(y) == before + 1
        return y

    torch.func.vmap(below)(torch.arange(2))


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


def test_an_operator_that_torch_lacks_has_no_rule() -> None:
    assert functorch.aten("no_such_operator") == ()
    assert functorch.aten("dropout", "no_such_overload") == ()
    assert len(functorch.aten("dropout")) == 2


def test_without_formulas_no_work_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with FlopCounter() as counter:
        X @ X.t()
    assert counter.total == 2 * 5 * 8 * 5
    monkeypatch.setattr("mcdrop._engine.flops.flop_formulas", dict)
    with FlopCounter() as counter:
        X @ X.t()
    assert counter.total == 0
    assert draw(mlp(), X, 8)[1].strategy == "vectorized"


def test_where_writes_cannot_be_seen_nothing_is_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = draw(mlp(), X, 20)
    monkeypatch.setattr("mcdrop._engine.planner.sees_writes", lambda: False)
    found, run = draw(mlp(), X, 20)
    assert run.strategy == "vectorized"
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_module_is_told_from_others() -> None:
    net = nn.Linear(2, 2)
    assert functorch.compiled_module(net) is None
    assert functorch.compiled_module(torch.compile(net)) is net  # type: ignore[arg-type]
