"""Which objects that a model holds are copied for it."""

from __future__ import annotations

import collections
import enum
import logging
import random
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mcdrop._twin.objects import (
    attributes_of,
    copied_generator,
    is_generator,
    is_helper,
    is_own,
    shallow,
)


class Counter:
    """An object of a class of the user's, with whatever in it."""

    def __init__(self, held: Any = None) -> None:
        self.n, self.held = 0, held


class Slotted:
    __slots__ = ("n", "unset")

    def __init__(self) -> None:
        self.n = 0


class Calls:
    n = 0

    def __call__(self) -> None:
        self.n += 1


@dataclass(frozen=True)
class Frozen:
    values: list[int] = field(default_factory=lambda: [1])


class Locked:
    def __init__(self) -> None:
        self.n = 0

    def __copy__(self) -> Any:
        raise RuntimeError("no copies")


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [Counter(), Counter(print), Counter(logging.getLogger()), Counter([Counter()]), Slotted(),
     Calls(), Frozen(), Counter(threading.Lock())],
)  # fmt: skip
def test_objects_of_the_users_classes_are_copied(value: object) -> None:
    assert is_own(value)


@pytest.mark.parametrize(
    "value",
    [1, "x", None, torch.ones(1), nn.Linear(1, 1), np.ones(1), Counter, random, Color.RED, print,
     logging.getLogger(), torch.optim.SGD([torch.ones(1)]), threading.Lock(), ValueError("x"),
     collections.OrderedDict(), object(), Counter([Counter() for _ in range(1500)])],
)  # fmt: skip
def test_everything_else_is_not(value: object) -> None:
    assert not is_own(value)


def test_an_object_that_refers_to_itself_has_an_end() -> None:
    value = Counter()
    value.held = [value]
    assert is_own(value)


def test_attributes_are_those_in_the_dict_and_in_slots() -> None:
    class Both(Slotted):
        def __init__(self) -> None:
            super().__init__()
            self.more = 1

    assert attributes_of(Both()) == {"n": 0, "more": 1}
    assert attributes_of(Slotted()) == {"n": 0}
    assert attributes_of(3) == {}


def test_helpers_hold_modules() -> None:
    assert is_helper(Counter(nn.Linear(1, 1)))
    assert not is_helper(Counter(1))


def test_a_shallow_copy_is_made_where_the_class_allows_it() -> None:
    value, locked = Counter([1]), Locked()
    copied = shallow(value)
    assert copied is not value
    assert copied.held is value.held
    assert shallow(locked) is locked


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: random.Random(1), lambda g: g.random()),
        (lambda: np.random.default_rng(1), lambda g: g.random()),
        (lambda: np.random.RandomState(1), lambda g: g.rand()),
        (lambda: torch.Generator().manual_seed(1), lambda g: float(torch.rand(1, generator=g))),
    ],
)
def test_a_copied_generator_goes_on_from_the_same_state(make: Any, draw: Any) -> None:
    generator = make()
    draw(generator)
    other = copied_generator(generator)
    assert is_generator(other)
    drawn = [draw(other) for _ in range(3)]
    assert drawn == [draw(generator) for _ in range(3)]
