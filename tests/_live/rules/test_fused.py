"""Functions after a deferred dropout: deferred as well, with the values of computing at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop._engine.plan import Memory
from mcdrop._fusion.placeholders import Linear, Mapped, Placeholders
from mcdrop._live.call import Call
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules import ACCEPTING, compute, live_rules
from mcdrop._live.rules.fused import _ELEMENTWISE
from mcdrop._masks.source import MaskSource, Span
from tests.passes import draw, plans

X = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))
N_PASSES = 3

Elementwise = Callable[..., Tensor]


class Net(nn.Module):
    """A function between two linear layers with dropout before each."""

    def __init__(self, function: Elementwise) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first, self.last, self.drop = nn.Linear(12, 20), nn.Linear(20, 3), nn.Dropout(0.4)
        self.function = function
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.function(self.first(self.drop(x)))
        out: Tensor = self.last(self.drop(hidden))
        return out


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("function", _ELEMENTWISE, ids=lambda f: f.__qualname__)
def test_a_deferred_function_has_the_values_of_one_computed_at_once(
    function: Elementwise, masks: Any
) -> None:
    memory = Memory()
    found, run = draw(Net(function), X, 32, masks=masks, memory=memory)
    assert [plan.defers for plan in plans(memory)] == [True]
    assert run.strategy == "vectorized"
    expected, _ = draw(Net(function), X, 32, "sequential", masks=masks)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def below_vmap(body: Callable[[Call, Placeholders], Tensor]) -> Tensor:
    """Run code as the model's, with placeholders, for all passes of a chunk."""

    def one(index: Tensor) -> Tensor:
        placeholders = Placeholders(compute, ACCEPTING)
        source = MaskSource(0, torch.device("cpu"))
        call = Call(
            live_rules(),
            source,
            False,
            Span(count=N_PASSES),
            index=index,
            placeholders=placeholders,
        )
        with LiveDropout(call):
            return call.read(body(call, placeholders))

    with torch.no_grad():
        return torch.func.vmap(one, randomness="error")(torch.arange(N_PASSES))


def hidden(x: Tensor) -> Tensor:
    return F.linear(F.dropout(x, 0.4), torch.eye(12))


@pytest.mark.parametrize(
    ("function", "deferred"),
    [
        (torch.relu, True),
        (lambda x: F.leaky_relu(x, 0.2), True),
        (lambda x: F.gelu(x, approximate="tanh"), True),
        (lambda x: F.relu(x, inplace=True), True),
        (lambda x: F.relu(x, inplace=False), True),
        (lambda x: F.relu(x, True), True),
        (lambda x: F.relu(input=x), True),
        (lambda x: torch.relu(input=x), False),
        (torch.exp, False),
        (lambda x: F.softmax(x, dim=-1), False),
    ],
)
def test_what_is_deferred(function: Elementwise, deferred: bool) -> None:
    def body(call: Call, placeholders: Placeholders) -> Tensor:
        out = function(hidden(X))
        assert isinstance(placeholders.deferred(out), Mapped) == deferred
        return out

    found = below_vmap(body)
    expected = below_vmap(lambda call, _: function(call.read(hidden(X)).clone()))
    torch.testing.assert_close(found, expected)


def test_writing_to_a_deferred_result_is_seen_by_all_who_hold_it() -> None:
    def body(call: Call, placeholders: Placeholders) -> Tensor:
        before = hidden(X)
        after = F.relu(before, inplace=True)
        assert after is before
        return before

    torch.testing.assert_close(
        below_vmap(body), below_vmap(lambda call, _: torch.relu(call.read(hidden(X))))
    )


@pytest.mark.parametrize(
    ("weight", "bias", "deferred"),
    [
        (torch.ones(5, 12), None, True),
        (torch.ones(5, 12), torch.ones(5), True),
        (torch.ones(12), None, False),
        (torch.ones(5, 12), torch.ones(()), False),
    ],
)
def test_only_linear_layers_of_the_usual_shape_are_deferred(
    weight: Tensor, bias: Tensor | None, deferred: bool
) -> None:
    def body(call: Call, placeholders: Placeholders) -> Tensor:
        out = F.linear(F.dropout(X, 0.4), weight, bias)
        assert isinstance(placeholders.deferred(out), Linear) == deferred
        return out

    found = below_vmap(body)
    dropped = below_vmap(lambda call, _: call.read(F.dropout(X, 0.4)).clone())
    torch.testing.assert_close(found, F.linear(dropped, weight, bias))


def test_functions_of_values_are_not_deferred() -> None:
    def body(call: Call, placeholders: Placeholders) -> Tensor:
        assert torch.equal(torch.tanh(X), X.tanh())
        assert not placeholders
        dropped = F.dropout(X, 0.4)
        # A function of dropped-out values themselves is computed: only linear layers are fused.
        assert placeholders.deferred(torch.tanh(dropped)) is None
        return dropped

    assert below_vmap(body).shape == (N_PASSES, 7, 12)
