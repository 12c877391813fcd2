"""Writes past torch's count are undone, and never reach the caller's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

import mcdrop
from tests.passes import draw

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Writes(nn.Module):
    buffer: Tensor

    def __init__(self, write: Callable[[Any], Any]) -> None:
        super().__init__()
        self.drop, self.write = nn.Dropout(0.5), write
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("buffer", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.write(self)
        return self.drop(x * self.weight * self.buffer.sum())


def through_data(net: Writes) -> None:
    net.buffer.data.add_(1)


def through_a_view_of_data(net: Writes) -> None:
    view = net.buffer.data[:2]
    view *= 3


def through_an_array(net: Writes) -> None:
    net.buffer.numpy()[0] += 1


def by_new_data(net: Writes) -> None:
    net.buffer.data = net.buffer + 1


def by_resizing(net: Writes) -> None:
    net.buffer.resize_(6)[4:] = 1


def weight_through_data(net: Writes) -> None:
    net.weight.data += 1


def weight_through_an_array(net: Writes) -> None:
    net.weight.detach().numpy()[:2] += 1


def weight_by_new_data(net: Writes) -> None:
    net.weight.data = net.weight.data * 2


def weight_through_dlpack(net: Writes) -> None:
    from_dlpack(net.weight.detach()).mul_(2)


def weight_zeroed(net: Writes) -> None:
    net.weight.zero_()
    net.weight.add_(2)


def weight_as_out(net: Writes) -> None:
    torch.mul(net.weight, 2, out=net.weight.detach())


def weight_reset(net: Writes) -> None:
    nn.init.constant_(net.weight, 3)
    torch.relu_(net.weight.neg_())
    torch.clamp_(net.weight, min=0.5)


def weight_through_its_storage(net: Writes) -> None:
    storage: Any = net.weight.untyped_storage()
    storage.fill_(1)


def weight_given_a_gradient(net: Writes) -> None:
    net.weight.grad = torch.ones(4)


def weight_in_a_list(net: Writes) -> None:
    torch._foreach_mul_(list(net.parameters()), 2.0)


def weight_with_modes_off(net: Writes) -> None:
    with torch._C.DisableTorchFunction():
        net.weight.mul_(2)


def weight_by_an_operator(net: Writes) -> None:
    torch.ops.aten.mul_.Tensor(net.weight, torch.tensor(2.0))


class ReadsFlag(Writes):
    """Reads its training flag, so that a training run of copies is watched first."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.write(self)
        x = x * self.weight * self.buffer.sum()
        return nn.functional.dropout(x, 0.5, self.training)


WRITES = [
    through_data, through_a_view_of_data, through_an_array, by_new_data, by_resizing,
    weight_through_data, weight_through_an_array, weight_by_new_data, weight_through_dlpack,
    weight_zeroed, weight_as_out, weight_reset, weight_through_its_storage,
    weight_given_a_gradient, weight_in_a_list, weight_with_modes_off, weight_by_an_operator,
]  # fmt: skip


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
@pytest.mark.parametrize("build", [Writes, ReadsFlag])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_undone_and_the_callers_model_untouched(
    write: Any, build: type[Writes], strategy: Any
) -> None:
    net = build(write).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found, _ = draw(net, X, 24, strategy)
    again, _ = draw(net, X, 24, strategy)
    mcdrop.wrap(net)(X)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(found, again)
    assert net.weight.grad is None
    first = 2 * Writes(write).eval()(X).detach()
    torch.testing.assert_close(found[found != 0], first.expand_as(found)[found != 0])
