"""In-place writes of dropped-out values: all passes at once give the numbers of one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from tests.passes import draw

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
ROWS = torch.tensor([0, 2, 4])


class Net(nn.Module):
    def __init__(self, forward: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.drop, self.linear, self.other = nn.Dropout(0.5), nn.Linear(6, 6), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self, x)


def add(net: Net, x: Tensor) -> Tensor:
    h = net.linear(x)
    h += net.drop(h)
    return h


def several(net: Net, x: Tensor) -> Tensor:
    h = net.linear(x)
    h.mul_(net.drop(h)).add_(1)
    h -= net.drop(x)
    h /= 2 + net.drop(h).abs()
    return net.linear(h)


def item(net: Net, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 7)
    out[:, 1:] = net.drop(x)
    out[ROWS % len(x), 0] = net.drop(x)[ROWS % len(x), 1]
    return out


def put(net: Net, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 6)
    return out.index_put_((torch.arange(len(x)).flip(0),), net.drop(x))


def scattered(net: Net, x: Tensor) -> Tensor:
    index = torch.arange(6).expand(len(x), 6).flip(1)
    out = torch.zeros(len(x), 6).scatter_(1, index, net.drop(x))
    return torch.ones(len(x), 6).scatter_add_(1, index, out)


def copied(net: Net, x: Tensor) -> Tensor:
    return torch.empty(len(x), 6).copy_(net.drop(x))


def filled(net: Net, x: Tensor) -> Tensor:
    h = net.linear(x)
    h.masked_fill_(net.drop(x) == 0, -1.0)
    return h


def dropped_in_place(net: Net, x: Tensor) -> Tensor:
    h = net.linear(x)
    F.dropout(h, 0.5, net.training, inplace=True)
    return h * 2


VECTORIZED = [add, several, item, put, scattered, copied, filled, dropped_in_place]


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("forward", VECTORIZED)
def test_a_tensor_is_given_room_for_all_passes(
    forward: Callable[[Net, Tensor], Tensor], masks: Any
) -> None:
    net = Net(forward).eval()
    found, run = draw(net, X, 20, masks=masks)
    assert run.strategy == "vectorized", run.reason
    expected, _ = draw(net, X, 20, "sequential", masks=masks)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.std(dim=0).max() > 0


def through_view(net: Net, x: Tensor) -> Tensor:
    h = net.linear(x)
    F.dropout(h[:, :3], 0.5, inplace=True)
    return h * 2


def through_detach(net: Net, x: Tensor) -> Tensor:
    h = net.linear(x)
    F.dropout(h.detach(), 0.5, inplace=True)
    return h * 2


def view_reads(net: Net, x: Tensor) -> Tensor:
    h = net.linear(x)
    view = h.view(-1)
    h += net.drop(x)
    return view.view(-1, 6)


def array_reads(net: Net, x: Tensor) -> Tensor:
    h = net.linear(x)
    array = h.detach().numpy()
    h += net.drop(x)
    return torch.from_numpy(array) + 0 * net.drop(x)


def input_itself(net: Net, x: Tensor) -> Tensor:
    before = x.clone()
    F.dropout(x, 0.5, inplace=True)
    return x - before


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize(
    "forward", [through_view, through_detach, view_reads, array_reads, input_itself]
)
def test_what_shares_memory_sees_the_write(
    forward: Callable[[Net, Tensor], Tensor], masks: Any
) -> None:
    net = Net(forward).eval()
    x = X.clone()
    found, run = draw(net, x, 20, masks=masks)
    expected, _ = draw(net, x, 20, "sequential", masks=masks)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.std(dim=0).max() > 0.1, run.reason
    assert torch.equal(x, X)


def test_parameters_are_never_replaced() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.weight = nn.Dropout(0.5), nn.Parameter(torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            out = self.weight * 1
            out += self.drop(x).sum(dim=0)
            return out.expand(len(x), 6) + 0

    net = Writes()
    weight = net.weight
    mcdrop.wrap(net).sample(X, 8)
    assert net.weight is weight
    assert torch.equal(weight, torch.ones(6))
