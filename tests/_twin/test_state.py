"""What a pass leaves on the copy is undone: no pass sees the one before, nor does the caller."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._trees import tensors
from mcdrop._twin.copy import recorded_copy
from mcdrop._twin.state import TwinState
from tests.passes import draw

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
STRATEGIES = pytest.mark.parametrize("strategy", ["vectorized", "sequential"])


class Stateful(nn.Module):
    """Dropout followed by something that depends on what earlier calls left behind."""

    buffer: Tensor

    def __init__(self, use: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.use = use
        self.number = 1
        self.hidden: Tensor | None = None
        self.log: list[Any] = []
        self.queue: deque[Any] = deque([1.0], maxlen=3)
        self.table: dict[str, Any] = {"scale": 1.0}
        self.ordered = OrderedDict(a=1.0)
        self.names = {"x"}
        self.counts: Counter[str] = Counter()
        self.made: defaultdict[str, float] = defaultdict(float)
        self.space = SimpleNamespace(scale=1.0)
        self.array = np.ones(1)
        self.register_buffer("buffer", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, self.drop(x))


def number(net: Stateful, h: Tensor) -> Tensor:
    net.number += 1
    return h * net.number


def hidden(net: Stateful, h: Tensor) -> Tensor:
    net.hidden = h if net.hidden is None else 0.5 * net.hidden + h
    return net.hidden


def log(net: Stateful, h: Tensor) -> Tensor:
    net.log.append(h)
    return h * len(net.log)


def queue(net: Stateful, h: Tensor) -> Tensor:
    net.queue.append(2.0)
    return h * sum(net.queue)


def table(net: Stateful, h: Tensor) -> Tensor:
    net.table["scale"] *= 3
    net.table["seen"] = net.table.get("seen", 0) + 1
    return h * net.table["scale"] * net.table["seen"]


def ordered(net: Stateful, h: Tensor) -> Tensor:
    net.ordered["b"] = len(net.ordered)
    net.ordered.move_to_end("a")
    return h * next(iter(net.ordered.values()))


def names(net: Stateful, h: Tensor) -> Tensor:
    net.names.add(f"y{len(net.names)}")
    return h * len(net.names)


def counts(net: Stateful, h: Tensor) -> Tensor:
    net.counts["calls"] += 1
    net.made["calls"] += 2
    return h * net.counts["calls"] * net.made["calls"]


def space(net: Stateful, h: Tensor) -> Tensor:
    net.space.scale += 1
    return h * net.space.scale


def buffer(net: Stateful, h: Tensor) -> Tensor:
    net.buffer.add_(1)
    return h * net.buffer


def replaced_buffer(net: Stateful, h: Tensor) -> Tensor:
    net.buffer = net.buffer + 1
    return h * net.buffer


def mask_kept(net: Stateful, h: Tensor) -> Tensor:
    if net.hidden is None:
        net.hidden = (h != 0).to(h.dtype)
    return net.hidden * h


USES = [
    number, hidden, log, queue, table, ordered, names, counts, space, buffer, replaced_buffer,
    mask_kept,
]  # fmt: skip


@STRATEGIES
@pytest.mark.parametrize("use", USES)
def test_every_pass_starts_from_the_model_as_it_is(
    use: Callable[[Any, Tensor], Tensor], strategy: Any
) -> None:
    net = Stateful(use).eval()
    before = dict(net.__dict__)
    found, run = draw(net, X, 24, strategy)
    assert run.strategy == strategy
    # A unit is dropped, or has the value of a first call of the untouched model, doubled.
    first = use(Stateful(use), X)
    torch.testing.assert_close(found[found != 0], (2 * first).expand_as(found)[found != 0])
    again, _ = draw(net, X, 24, strategy)
    assert torch.equal(found, again)
    assert all(net.__dict__[name] is value for name, value in before.items())
    torch.testing.assert_close(use(net, X), first)


@STRATEGIES
def test_an_output_that_is_a_buffer_keeps_its_values(strategy: Any) -> None:
    def returned(net: Stateful, h: Tensor) -> Tensor:
        net.buffer.add_(1)
        return torch.cat([h[:, :1], net.buffer.expand(len(h), 1)], dim=1)

    found, _ = draw(Stateful(returned).eval(), X, 8, strategy)
    assert bool((found[..., 1] == 2).all())


def test_the_buffer_alone_as_output_is_not_overwritten() -> None:
    class Running(nn.Module):
        buffer: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.register_buffer("buffer", torch.zeros(6, 4))

        def forward(self, x: Tensor) -> Tensor:
            self.buffer += self.drop(x)
            return self.buffer

    found, run = draw(Running().eval(), X, 32)
    assert run.strategy == "sequential"
    torch.testing.assert_close(found[found != 0], (2 * X).expand_as(found)[found != 0])


def test_arrays_of_the_model_are_copied() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.array = nn.Dropout(0.5), np.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            self.array += 1
            return self.drop(x)

    net = Writes()
    mcdrop.wrap(net).sample(X, 4)
    assert net.array[0] == 0


def kept_in_a_dict(net: Any, x: Tensor) -> Any:
    net.results["prediction"] = x
    return net.results


def kept_in_a_list(net: Any, x: Tensor) -> Any:
    net.list.append(x)
    return {"last": (net.list,)}


def kept_in_an_array(net: Any, x: Tensor) -> Any:
    net.array[...] = x.numpy()
    return torch.from_numpy(net.array)


def kept_in_a_view(net: Any, x: Tensor) -> Any:
    net.buffer.data.copy_(x)
    return net.buffer[:]


KEPT = [kept_in_a_dict, kept_in_a_list, kept_in_an_array, kept_in_a_view]


@pytest.mark.parametrize("keep", KEPT)
def test_an_output_that_the_model_keeps_is_returned_as_it_was(keep: Any) -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.results: dict[str, Tensor] = {}
            self.list: list[Tensor] = []
            self.array = np.zeros((6, 4), np.float32)
            self.register_buffer("buffer", torch.zeros(6, 4))

        def forward(self, x: Tensor) -> Any:
            return keep(self, self.drop(x))

    found, _ = draw(Keeps().eval(), X, 32, select=lambda output: next(tensors(output)))
    dropped = found == 0
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(found[~dropped], (2 * X).expand_as(found)[~dropped])


def test_arrays_that_cannot_be_written_to_are_left_alone() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    vars(net)["array"] = np.broadcast_to(np.zeros(1), (3,))
    mcdrop.wrap(net.eval()).sample(X, 4)


def test_nothing_changed_means_nothing_written() -> None:
    net, made = recorded_copy(Stateful(number))
    state = TwinState(made)
    version = net.buffer._version
    state.restore()
    assert not state.has_written_tensors()
    assert net.buffer._version == version


class Renormalizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.drop = nn.Embedding(5, 4, max_norm=0.5), nn.Dropout(0.5)

    def forward(self, index: Tensor) -> Tensor:
        return self.drop(self.table(index))


class WritesWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.drop = nn.Parameter(torch.ones(4)), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.5)
            self.weight[0] = 3
        return self.drop(x * self.weight)


@STRATEGIES
@pytest.mark.parametrize(
    ("model", "x"), [(Renormalizes(), torch.arange(5)), (WritesWeight(), torch.ones(6, 4))]
)
def test_a_parameter_that_the_model_writes_to_stays_the_callers(
    model: nn.Module, x: Tensor, strategy: Any
) -> None:
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    versions = [p._version for p in model.parameters()]
    found, _ = draw(model, x, 32, strategy)
    again, _ = draw(model, x, 32, strategy)
    mcdrop.wrap(model)(x)
    mcdrop.wrap(model).sites(x)
    assert [p._version for p in model.parameters()] == versions
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(found, again)
    with torch.no_grad():
        once = 2 * model(x)
    torch.testing.assert_close(found[found != 0], once.expand_as(found)[found != 0])
    model.load_state_dict(before)


class Holder:
    """An object of a class of the user's."""

    new: Any

    def __init__(self, inner: Any = None) -> None:
        self.n, self.inner = 0, inner
        self.recorded: list[Any] = [np.zeros(2)]


class KeepsInObject(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop, self.holder = nn.Dropout(0.5), Holder(Holder())

    def forward(self, x: Tensor) -> Tensor:
        self.holder.n += 1
        self.holder.inner.n += 1
        self.holder.recorded.append(x)
        self.holder.recorded[0] += 1
        self.holder.new = x
        return self.drop(x) * self.holder.n * self.holder.inner.n * self.holder.recorded[0][0]


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_objects_that_hold_numbers_are_the_copys_own_and_start_anew(strategy: Any) -> None:
    model = KeepsInObject().eval()
    found, _ = draw(model, X, 20, strategy)
    torch.testing.assert_close(found[found != 0], (2 * X).expand_as(found)[found != 0])
    assert (model.holder.n, model.holder.inner.n, len(model.holder.recorded)) == (0, 0, 1)
    assert not model.holder.recorded[0].any()
    assert not hasattr(model.holder, "new")
