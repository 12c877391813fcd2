"""Kernels that hide their dropout, answered by what the user has registered for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._live.rules import registry
from tests.passes import draw

X = torch.ones(4, 3)


SCHEMA = "(Tensor x, Tensor residual, float p, bool training) -> Tensor"


@torch.library.custom_op("mcdrop_tests::dropout_add", mutates_args=(), schema=SCHEMA)
def dropout_add(x: Tensor, residual: Tensor, p: float, training: bool) -> Tensor:
    """Stands for a kernel: what it does inside is not seen."""
    return residual + F.dropout(x, p, training)


class CallsOperator(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mcdrop_tests.dropout_add(x, x, 0.5, self.training)
        return out


class CallsOverload(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mcdrop_tests.dropout_add.default(x, x, 0.5, self.training)
        return out


class Fused(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch._C._nn.gelu(x) + x.detach().numpy().sum()
        return out


@pytest.fixture(autouse=True)
def _registered_here_alone() -> Iterator[None]:
    rules, forwards = dict(registry._RULES), dict(registry._FORWARDS)
    yield
    for kept, before in ((registry._RULES, rules), (registry._FORWARDS, forwards)):
        kept.clear()
        kept.update(before)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
@pytest.mark.parametrize("model", [CallsOperator(), CallsOverload()])
def test_a_registered_operator_drops_units(model: nn.Module, strategy: str) -> None:
    @mcdrop.register_rule(torch.ops.mcdrop_tests.dropout_add)
    def in_plain_torch(x: Tensor, residual: Tensor, p: float, training: bool) -> Tensor:
        return residual + F.dropout(x, p)

    found, run = draw(model, X, 64, strategy)  # type: ignore[arg-type]
    assert [site.p for site in run.sites] == [0.5]
    # 1 + 0 where a unit is dropped, 1 + 2 where it is kept.
    assert found.unique().tolist() == [1.0, 3.0]
    # Half of 16 passes drop a unit.
    assert bool((found.mean(dim=0) == 2.0).all())


def test_a_registered_module_runs_the_replacement_on_the_copy_alone() -> None:
    @mcdrop.register_rule(Fused)
    def in_plain_torch(module: Fused, x: Tensor) -> Tensor:
        return F.dropout(F.gelu(x), 0.5) + X.sum()

    model = nn.Sequential(Fused()).eval()
    before = model(X)
    found, run = draw(model, X, 32)
    assert run.strategy == "vectorized"
    assert [site.name for site in run.sites] == ["0:dropout"]
    torch.testing.assert_close(found.mean(dim=0), before, rtol=1e-4, atol=0)
    assert "forward" not in model[0].__dict__
    assert torch.equal(model(X), before)


def test_what_is_registered_is_not_hidden_by_what_was_remembered() -> None:
    mc = mcdrop.wrap(nn.Sequential(CallsOperator(), nn.Dropout(0.25)))
    with pytest.raises(mcdrop.UnsupportedError, match=r"0 \(CallsOperator\), .*register_rule"):
        mc.predict_with_uncertainty(X, seed=0, task="regression")

    @mcdrop.register_rule(torch.ops.mcdrop_tests.dropout_add.default)
    def in_plain_torch(x: Tensor, residual: Tensor, p: float, training: bool) -> Tensor:
        return residual + F.dropout(x, p)

    assert len(mc.predict_with_uncertainty(X, seed=0, task="regression").run.sites) == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("strategy", ["auto", "vectorized", "sequential"])
def test_a_replacement_that_is_another_function_is_refused(strategy: Any) -> None:
    model = mcdrop.wrap(CallsOperator())

    def right(x: Tensor, residual: Tensor, p: float, training: bool) -> Tensor:
        return residual + F.dropout(x, p)

    def wrong(x: Tensor, residual: Tensor, p: float, training: bool) -> Tensor:
        return F.dropout(x, p)

    register = mcdrop.register_rule(torch.ops.mcdrop_tests.dropout_add)
    register(right)
    model.sample(X, 4, strategy=strategy)
    # What was learned with the first replacement does not hide the second.
    register(wrong)
    with pytest.raises(mcdrop.UnsupportedError, match=r"off by 1\b.*register_rule"):
        model.sample(X, 4, strategy=strategy)


def test_a_wrong_replacement_of_a_module_is_refused() -> None:
    mcdrop.register_rule(Fused)(lambda module, x: F.dropout(x, 0.5))
    with pytest.raises(mcdrop.UnsupportedError, match="Check what is registered"):
        mcdrop.wrap(nn.Sequential(Fused())).sample(X, 4)


@pytest.mark.parametrize("target", [F.dropout, Fused(), "fused", nn.Linear.forward])
def test_what_cannot_be_intercepted_is_refused(target: object) -> None:
    with pytest.raises(mcdrop.UnsupportedError, match="be a torch.nn.Module class or an operator"):
        mcdrop.register_rule(target)
