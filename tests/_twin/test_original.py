"""A copy that is kept answers like a new one, whatever has happened to the model meanwhile."""

from __future__ import annotations

import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mcdrop._twin.copy import recorded_copy


class Config:
    """An object of the user's, which the copy has for itself."""

    def __init__(self) -> None:
        self.shift = 0.5
        self.inner = [1.0]


class Listed(list):  # type: ignore[type-arg]
    """Holds more than its attributes."""


class Rich(nn.Module):
    """Holds at least one of everything that a copy has for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(4, 1)
        self.factor = 1.0
        self.factors = [1.0, [2.0]]
        self.named = {"a": 1.0}
        self.queue = deque([1.0])
        self.known = {1.0}
        self.none: list[float] = []
        self.config = Config()
        self.space = types.SimpleNamespace(shift=0.25)
        self.array = np.ones(2)
        self.plain = torch.ones(1)
        self.ordered = OrderedDict(a=1.0)
        self.above = weakref.ref(self.last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(self.first(x)).relu()) * self.factor
        above = self.above() or self.last
        terms = [*self.factors[:1], *self.factors[1], *self.named.values()]  # type: ignore[misc]
        terms += [*self.queue, *self.known, *self.none, self.config.shift, self.space.shift]
        terms += [float(self.array.sum()), *self.config.inner, *self.ordered.values()]
        return above(x) * sum(terms) * self.plain


def closing(model: Rich) -> None:
    held = model.forward
    weight = {"by": 2.0}

    def forward(x: Tensor) -> Tensor:
        return held(x) * weight["by"]

    model.forward = forward  # type: ignore[method-assign]


def rebound(model: Rich) -> None:
    model.first.weight = nn.Parameter(torch.ones(4, 3))


def subclassed(model: Rich) -> None:
    model.drop.__class__ = nn.Dropout1d  # type: ignore[assignment]


def shorter(model: Rich) -> None:
    model.factors[1].append(3.0)  # type: ignore[attr-defined]


def reordered(model: Rich) -> None:
    modules = model._modules
    modules["first"] = modules.pop("first")


CHANGES: dict[str, Callable[[Rich], Any]] = {
    "a parameter is another": rebound,
    "a module is another": lambda m: setattr(m, "last", nn.Linear(4, 1)),
    "a module is new": lambda m: m.add_module("new", nn.Linear(1, 1)),
    "modules have another order": reordered,
    "a class is another": subclassed,
    "a hook is new": lambda m: m.last.register_forward_hook(lambda *_: torch.zeros(2, 1)),
    "a hook before is new": lambda m: m.last.register_forward_pre_hook(lambda *_: None),
    "forward is patched": closing,
    "a rate is another": lambda m: setattr(m.drop, "p", 0.25),
    "a number is another": lambda m: setattr(m, "factor", 2.0),
    "an attribute is new": lambda m: setattr(m, "newer", 1),
    "a list holds another": lambda m: m.factors.__setitem__(0, 5.0),
    "a list in a list grows": shorter,
    "an empty list grows": lambda m: m.none.append(1.0),
    "a dict holds another": lambda m: m.named.update(a=3.0),
    "a dict holds more": lambda m: m.named.update(b=3.0),
    "an ordered dict holds another": lambda m: m.ordered.update(a=3.0),
    "a queue moves": lambda m: m.queue.append(2.0),
    "a set holds more": lambda m: m.known.add(2.0),
    "an object changes": lambda m: setattr(m.config, "shift", 3.0),
    "an object's list changes": lambda m: m.config.inner.append(3.0),
    "a namespace changes": lambda m: setattr(m.space, "shift", 3.0),
    "an array changes": lambda m: m.array.__setitem__(0, 7.0),
    "a reference points elsewhere": lambda m: setattr(m, "above", weakref.ref(nn.Linear(4, 1))),
    "a buffer is another": lambda m: m.norm.register_buffer("running_mean", torch.ones(4)),
    "a buffer has another shape": lambda m: setattr(m.plain, "data", torch.ones(2)),
    "it has another type": lambda m: m.double(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed(change: Callable[[Rich], Any]) -> None:
    model = Rich()
    original = recorded_copy(model)[1].original
    assert original.is_unchanged()
    change(model)
    assert not original.is_unchanged()


def test_what_the_copy_shares_or_sets_for_itself_may_change() -> None:
    model = Rich()
    original = recorded_copy(model)[1].original
    model.train()
    with torch.no_grad():
        model.first.weight.add_(1)
        model.norm.running_mean.add_(1)  # type: ignore[union-attr]
    assert original.is_unchanged()
    assert any(x is model.plain for x in original.tensors)


def test_what_a_patched_forward_closes_over_is_looked_at() -> None:
    model, other = nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)
    inner: nn.Module = model[0]

    def forward(x: Tensor) -> Tensor:
        return inner(x)

    model.forward = forward  # type: ignore[method-assign]
    original = recorded_copy(model)[1].original
    assert original.is_unchanged()
    inner = other
    assert not original.is_unchanged()


def test_the_module_inside_a_wrapper_is_looked_at() -> None:
    model = nn.Sequential(nn.DataParallel(nn.Linear(2, 2)))
    original = recorded_copy(model)[1].original
    assert original.is_unchanged()
    model[0].module = nn.Linear(2, 2)
    assert not original.is_unchanged()


@pytest.mark.parametrize(
    "held",
    [torch.Generator(), np.random.default_rng(0), Listed([1.0]), torch.eye(2).to_sparse()],
    ids=["generator", "numpy", "list of a class", "sparse"],
)
def test_what_may_change_unseen_is_not_kept(held: Any) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model.held = held
    assert recorded_copy(model)[1].original.is_opaque


def test_parameters_of_its_own_are_not_kept() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    assert not recorded_copy(model)[1].original.is_opaque
    assert recorded_copy(model, dtype=torch.float64)[1].original.is_opaque
    assert recorded_copy(model, own={id(model[0].weight)})[1].original.is_opaque
