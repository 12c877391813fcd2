"""What a forward pass changes for good is named as the user wrote it."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._twin.drift import changed, contents
from tests.passes import draw as draw_passes

X = torch.ones(6, 4)
TOTAL = [0]


class Drifting(nn.Module):
    n_calls = 0

    buffer: Tensor

    def __init__(self, step: Callable[[Any], float], state: Any = None) -> None:
        super().__init__()
        self.drop, self.step, self.state = nn.Dropout(0.5), step, state
        self.register_buffer("buffer", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) + self.step(self)


def of_the_class(net: Any) -> float:
    type(net).n_calls += 1
    return float(type(net).n_calls)


def of_a_global(net: Any) -> float:
    TOTAL[0] += 1
    return TOTAL[0]


def closure() -> Callable[[Any], float]:
    total = 0

    def step(net: Any) -> float:
        nonlocal total
        total += 1
        return total

    return step


def generated() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def of_an_iterator(net: Any) -> float:
    return float(next(net.state))


def cached() -> Callable[[Any], float]:
    held = functools.lru_cache(lambda: torch.zeros(1))

    def step(net: Any) -> float:
        return float(held().add_(1))

    return step


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (lambda: Drifting(of_the_class), "Drifting.n_calls"),
        (lambda: Drifting(of_a_global), r"the global TOTAL\[0\]"),
        (lambda: Drifting(closure()), "total in step"),
        (lambda: Drifting(of_an_iterator, generated()), "number in state"),
        (lambda: Drifting(of_an_iterator, itertools.count()), "state"),
        (lambda: Drifting(cached()), "nothing that could be named"),
    ],
)
def test_a_model_that_drifts_is_refused_by_name(model: Any, name: str) -> None:
    text = (
        "predict_with_uncertainty: expected `model` to return the same for the same inputs in eval"
        f" mode, but got outputs that differ by 1 from one call to the next; it changes {name}."
    )
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        mcdrop.predict_with_uncertainty(model(), X, task="regression")


def torch_draws(net: Any) -> float:
    return float(torch.rand(1, generator=net.state))


@pytest.mark.parametrize(
    ("make", "draw", "state"),
    [
        (lambda: random.Random(1), lambda net: net.state.random(), lambda g: g.getstate()),
        (
            lambda: np.random.default_rng(1),
            lambda net: net.state.random(),
            lambda g: g.bit_generator.state,
        ),
        (
            lambda: np.random.RandomState(1),
            lambda net: net.state.rand(),
            lambda g: str(g.get_state()),
        ),
        (lambda: torch.Generator().manual_seed(1), torch_draws, lambda g: g.get_state().tolist()),
    ],
)
def test_a_generator_of_the_models_own_is_copied_and_goes_on(
    make: Any, draw: Any, state: Any
) -> None:
    model = Drifting(draw, make())
    before = state(model.state)
    first, second = (draw_passes(model, X, 30)[0] for _ in range(2))
    assert state(model.state) == before
    assert torch.equal(first, second)
    # Uniform numbers are added to 0 or 2: every pass has one of its own.
    assert len(first.amin(dim=(1, 2)).unique()) == 30


def test_what_is_undone_by_hand_is_not_named() -> None:
    net = Drifting(lambda net: 0.0)
    before = contents(net)
    assert changed(before, contents(net)).names == []
    net.buffer.add_(1)
    net.state = {"a": [1, np.ones(2)]}
    found = changed(before, contents(net))
    assert set(found.names) == {
        "buffer",
        "state",
        "state['a'][0]",
        "state['a'][1]",
        "len(state['a'])",
    }
    assert found.generators == []


def test_empty_cells_and_tensors_are_no_obstacle() -> None:
    def later() -> float:
        return float(unset)

    net = Drifting(lambda net: 0.0, [later, torch.empty(0), torch.ones(2, dtype=torch.int8)])
    before = contents(net)
    unset = 1
    assert changed(before, contents(net)).names == ["unset in state[0]"]
