"""Deferred dropout: whatever reads it gets the same values, or nothing is deferred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Memory, Plan
from mcdrop._engine.record import Masks, Run
from mcdrop._engine.settings import AskedStrategy
from mcdrop._fusion import layers as dropped_layers
from mcdrop._fusion.placeholders import DeferredError, Dropped
from mcdrop._live.call import Call
from mcdrop._live.functorch import writes
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules import fused
from tests.passes import draw, plans

X = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))
MASKS = pytest.mark.parametrize("masks", ["independent", "shared"])


@pytest.fixture(autouse=True, params=[1, 2**20])
def _tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run layers one pass at a time and all at once."""
    monkeypatch.setattr(dropped_layers, "_TILE", request.param)


class Net(nn.Module):
    """Two hidden layers; how the tensors go on from the first dropout is up to `after`."""

    def __init__(self, after: Callable[[Net, Tensor], Any]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first, self.second = nn.Linear(12, 20), nn.Linear(20, 20)
        self.last = nn.Linear(20, 3)
        self.drop = nn.Dropout(0.4)
        self.after = after
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4

    def forward(self, x: Tensor) -> Any:
        return self.after(self, torch.relu(self.first(x)))


def passes(
    model: nn.Module, masks: Masks, strategy: AskedStrategy = "auto", **options: Any
) -> tuple[Tensor, Run]:
    return draw(model, X, 40, strategy, masks=masks, **options)


def check(model: nn.Module, masks: Masks, *, defers: bool = True, **options: Any) -> Run:
    memory = Memory()
    found, run = passes(model, masks, memory=memory, **options)
    assert [plan.defers for plan in plans(memory)] == [defers]
    expected, _ = passes(model, masks, "sequential", **options)
    assert run.strategy == "vectorized", run.reason
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.std(dim=0).max().item() > 1e-3
    return run


def chain(net: Net, h: Tensor) -> Tensor:
    return net.last(net.drop(torch.relu(net.second(net.drop(h)))))


def in_place_relu(net: Net, h: Tensor) -> Tensor:
    return net.last(net.drop(F.relu(net.second(net.drop(h)), inplace=True)))


def many_functions(net: Net, h: Tensor) -> Tensor:
    h = F.gelu(net.second(net.drop(h)), approximate="tanh")
    h = F.leaky_relu(net.second(net.drop(h)), 0.2)
    h = torch.tanh(F.softplus(net.second(net.drop(h)), beta=2.0))
    return net.last(net.drop(h.sigmoid()))


def by_position(net: Net, h: Tensor) -> Tensor:
    # The third argument says that it writes.
    return net.last(net.drop(F.elu(net.second(net.drop(h)), 0.5, True)))


def residual(net: Net, h: Tensor) -> Tensor:
    dropped = net.drop(h)
    return net.last(dropped + net.second(dropped))


def read_then_multiplied(net: Net, h: Tensor) -> Tensor:
    dropped = net.drop(h)
    total = dropped.sum(dim=-1, keepdim=True)
    dropped.add_(total)
    return net.last(dropped)


def hidden_twice(net: Net, h: Tensor) -> Tensor:
    hidden = net.second(net.drop(h))
    active = torch.relu(hidden)
    return net.last(net.drop(active)) + hidden.mean() + active[:, :3]


def overwritten_after_use(net: Net, h: Tensor) -> Tensor:
    hidden = net.second(net.drop(h))
    gate = torch.sigmoid(hidden)
    F.relu(hidden, inplace=True)
    return net.last(net.drop(hidden)) + gate[:, :3]


def used_after_the_layer(net: Net, h: Tensor) -> Tensor:
    dropped = net.drop(h)
    hidden = net.second(dropped)
    total = dropped + 1
    return net.last(hidden + total) + net.last(dropped)


def ends_in_a_function(net: Net, h: Tensor) -> Tensor:
    return torch.tanh(F.softplus(net.last(net.drop(h))))


def twice_dropped(net: Net, h: Tensor) -> Tensor:
    return net.last(net.drop(net.drop(h)))


def nothing_after(net: Net, h: Tensor) -> Tensor:
    return net.drop(h)


def linear_after_linear(net: Net, h: Tensor) -> Tensor:
    return net.last(net.second(net.drop(h)))


def by_name(net: Net, h: Tensor) -> Tensor:
    return F.linear(input=F.dropout(input=h, p=0.4), weight=net.last.weight)


def read_by_name(net: Net, h: Tensor) -> Tensor:
    return net.last(torch.add(h, other=net.drop(h)))


def vector_weight(net: Net, h: Tensor) -> Tensor:
    return F.linear(net.drop(h), net.last.weight[0])


def more_dimensions(net: Net, h: Tensor) -> Tensor:
    h = torch.stack([h, 2 * h], dim=1)
    return chain(net, h)


def described(net: Net, h: Tensor) -> Tensor:
    h = net.drop(h)
    assert h.shape[1:] == (20,)
    assert h.size(1) == 20
    assert h.dim() == 2
    assert h.dtype == torch.float32
    assert not h.requires_grad
    return net.last(h)


def in_a_list(net: Net, h: Tensor) -> Tensor:
    return net.last(torch.cat([net.drop(h), net.drop(-h)]).view(2, -1, 20).sum(dim=0))


@MASKS
@pytest.mark.parametrize(
    "after",
    [
        chain,
        in_place_relu,
        many_functions,
        by_position,
        residual,
        read_then_multiplied,
        hidden_twice,
        overwritten_after_use,
        used_after_the_layer,
        ends_in_a_function,
        twice_dropped,
        nothing_after,
        linear_after_linear,
        by_name,
        read_by_name,
        vector_weight,
        more_dimensions,
        described,
        in_a_list,
    ],
)
def test_the_passes_are_those_of_one_pass_at_a_time(
    after: Callable[[Net, Tensor], Any], masks: Masks
) -> None:
    check(Net(after), masks)


@MASKS
def test_a_chain_is_deferred_and_read_once(masks: Masks, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    original = fused.compute

    def counted(call: Call, node: Any) -> Tensor:
        computed.append(type(node).__name__)
        return original(call, node)

    monkeypatch.setattr("mcdrop._engine.passes.compute", counted)
    _, run = passes(Net(chain), masks)
    # Once for the check with open masks and once for all passes.
    assert computed == ["Linear", "Linear"]
    assert run.sample_chunk == 40


def written_later(net: Net, h: Tensor) -> Tensor:
    dropped = net.drop(h)
    h.mul_(2)
    return net.last(dropped)


@MASKS
def test_what_is_written_to_after_dropout_runs_one_pass_at_a_time(masks: Masks) -> None:
    # In eval mode dropout returns what it is given, so that this model is another one there.
    found, run = passes(Net(written_later), masks)
    expected, _ = passes(Net(written_later), masks, "sequential")
    assert run.strategy == "sequential"
    assert torch.equal(found, expected)


def test_what_was_written_to_is_not_dropped_out() -> None:
    x = torch.ones(3, 4)
    node = Dropped(x, None, 0.5, writes)
    node.check()
    x[0].add_(1)
    with pytest.raises(DeferredError, match="writes to a tensor after dropout"):
        node.check()


def unseen(net: Net, h: Tensor) -> Tensor:
    dropped = net.drop(h)
    with torch._C.DisableTorchFunction():
        doubled = dropped * 2
    return net.last(doubled)


@MASKS
def test_what_reads_a_placeholder_unseen_is_found_out(masks: Masks) -> None:
    check(Net(unseen), masks, defers=False)


def unseen_for_some(net: Net, h: Tensor) -> Tensor:
    later = bool(h[0, 0] < THRESHOLD)
    dropped = net.drop(h)
    if not later:
        return net.last(dropped)
    with torch._C.DisableTorchFunction():
        doubled = dropped * 2
    return net.last(doubled)


THRESHOLD = 0.1


@MASKS
def test_a_batch_that_reads_placeholders_unseen_is_computed_again(
    masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = torch.relu(Net(chain).first(X))[:, 0]
    order = first.argsort(descending=True)
    monkeypatch.setitem(globals(), "X", X[order])
    monkeypatch.setitem(globals(), "THRESHOLD", first[order][4].item() + 1e-6)
    assert first[order][0] > THRESHOLD >= first[order][4]
    memory = Memory()
    calls: list[bool] = []
    original = Passes.vectorized

    def counted(self: Passes, plan: Plan, *rest: Any) -> Tensor:
        calls.append(plan.defers)
        return original(self, plan, *rest)

    monkeypatch.setattr(Passes, "vectorized", counted)
    net = Net(unseen_for_some)
    found, _ = passes(net, masks, memory=memory, batch_size=4)
    # The second batch is computed again; later predictions do without placeholders at once.
    assert calls == [True, True, False]
    again, _ = passes(net, masks, memory=memory, batch_size=4)
    assert calls[3:] == [False, False]
    expected, _ = passes(net, masks, "sequential", batch_size=4)
    for each in (found, again):
        torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5)


@dataclass
class Output:
    """What a model of another library returns."""

    logits: Tensor
    hidden: Tensor


def dataclass_output(net: Net, h: Tensor) -> Output:
    h = net.drop(h)
    return Output(net.last(h), h)


def tuple_output(net: Net, h: Tensor) -> tuple[Tensor, Tensor]:
    h = net.drop(h)
    return net.last(h), h


@MASKS
def test_outputs_are_read_wherever_they_lie(masks: Masks) -> None:
    check(Net(dataclass_output), masks, select="logits")
    check(Net(tuple_output), masks, select=0)
    check(Net(tuple_output), masks, select=lambda output: output[1][:, :2])
    check(Net(dataclass_output), masks, select=lambda output: output.hidden * 2)


@MASKS
def test_values_are_let_go_of_with_their_placeholders(masks: Masks) -> None:
    held: list[int] = []

    def long(net: Net, h: Tensor) -> Tensor:
        for _ in range(5):
            h = net.second(net.drop(h)) + 1
            call = live_call()
            if call is not None and call.placeholders is not None:
                held.append(len(call.placeholders._deferred))
        return net.last(h)

    check(Net(long), masks)
    assert len(held) >= 5
    assert max(held) <= 2


def live_call() -> Call | None:
    modes = torch.overrides._get_current_function_mode_stack()
    found = [mode.call for mode in modes if isinstance(mode, LiveDropout)]
    return found[0] if found else None
