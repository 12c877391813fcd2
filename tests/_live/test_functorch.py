"""The door to torch's private names: all are there, and each has a way out that works."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.flops import FlopCounter
from mcdrop._live import functorch
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
    monkeypatch.setattr("mcdrop._engine.in_use.sees_writes", lambda: False)
    found, run = draw(mlp(), X, 20)
    assert run.strategy == "vectorized"
    torch.testing.assert_close(found, expected)


def test_trees_are_taken_apart_and_put_together() -> None:
    values, rebuild, structure = functorch.flattened({"a": (1, [2]), "b": 3})
    assert values == [1, 2, 3]
    assert rebuild([4, 5, 6]) == {"a": (4, [5]), "b": 6}
    assert structure == functorch.flattened({"a": (0, [0]), "b": 0})[2]
