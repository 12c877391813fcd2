"""Which models are worth watching: those with code that could read a training flag."""

from __future__ import annotations

import types

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._twin.flag_readers import may_read_flags, may_write_unseen


def helper(module: nn.Module, x: Tensor) -> Tensor:
    return F.dropout(x, 0.5, module.training)


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class ByAttribute(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training)


class ByName(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, getattr(self, "training"))  # noqa: B009


class ByHelper(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return helper(self, x)


class InProperty(Plain):
    @property
    def rate(self) -> float:
        return 0.5 * self.training


@pytest.mark.parametrize("kind", [ByAttribute, ByName, ByHelper, InProperty])
def test_flags_are_found_in_methods_and_helpers(kind: type[nn.Module]) -> None:
    assert may_read_flags(nn.Sequential(nn.Linear(2, 2), kind()))


def test_code_of_torch_and_of_the_library_is_known() -> None:
    layers = (nn.Dropout(), nn.LSTM(2, 2), nn.MultiheadAttention(2, 1), Plain())
    assert not may_read_flags(nn.ModuleList([*layers, mcdrop.layers.LockedDropout(0.1)]))


def test_functions_held_by_a_module_count() -> None:
    model = Plain()
    model.helper = helper  # type: ignore[assignment]
    assert may_read_flags(model)
    patched = Plain()
    patched.forward = types.MethodType(ByAttribute.forward, patched)  # type: ignore[method-assign]
    assert may_read_flags(patched)


class InAList(Plain):
    def forward(self, x: Tensor) -> Tensor:
        torch._foreach_mul_(list(self.parameters()), 2.0)
        return x


class WithModesOff(Plain):
    def forward(self, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return x.add_(1)


class ByOperator(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.mul_.Tensor(x, x)


class ReadsByOperator(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.mul.Tensor(x, x)


@pytest.mark.parametrize("kind", [InAList, WithModesOff, ByOperator])
def test_code_that_may_write_unseen(kind: type[nn.Module]) -> None:
    assert may_write_unseen(nn.Sequential(nn.Linear(2, 2), kind()))


def test_code_that_writes_where_it_is_seen() -> None:
    assert not may_write_unseen(nn.ModuleList([Plain(), ReadsByOperator(), nn.LSTM(2, 2)]))
