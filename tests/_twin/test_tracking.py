"""The tracker: which module is running, and which gates are open, also after an exception."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._live.call import Call
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules import live_rules
from mcdrop._masks.source import MaskSource, Span
from mcdrop._twin.copy import structural_copy
from mcdrop._twin.tracking import Tracker
from tests.zoo import DropPath

X = torch.ones(4, 5, 8)


class Attention(nn.Module):
    """Passes a rate of zero in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)


class Notes(nn.Module):
    """Notes the path of the module that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.call: Call | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.call is not None:
            self.paths.append(self.call.seen.module_path)
        return x


class DropPathThatFails(DropPath):
    """Draws its numbers, and fails if it is told to."""

    fails = False

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if self.fails:
            raise KeyError("stopped")
        return out


def call_of(*, opened: bool = False) -> Call:
    source = MaskSource(0, torch.device("cpu"))
    return Call(live_rules(), source, opened, Span())


def tracked(
    model: nn.Module, stochastic: tuple[type[nn.Module] | str, ...] = ()
) -> tuple[Any, Tracker]:
    twin = structural_copy(model)
    return twin, Tracker("sample", twin, stochastic)


def test_the_path_is_that_of_the_innermost_module() -> None:
    twin, tracker = tracked(nn.Sequential(nn.Sequential(Notes(), nn.ReLU()), Notes()))
    call = call_of()
    twin[0][0].call = twin[1].call = call
    tracker.begin(call)
    twin(X)
    assert (twin[0][0].paths, twin[1].paths) == (["0.0"], ["1"])
    assert call.seen.modules == []
    assert call.seen.module_path == "(root)"


def test_a_module_used_twice_is_entered_twice() -> None:
    notes = Notes()
    twin, tracker = tracked(nn.Sequential(notes, nn.ReLU(), notes))
    call = call_of()
    twin[0].call = call
    tracker.begin(call)
    twin(X)
    assert twin[0].paths == ["0", "0"]


def test_an_exception_leaves_no_module_and_no_gate_behind() -> None:
    twin, tracker = tracked(nn.Sequential(nn.Sequential(DropPathThatFails(0.5))))
    twin[0][0].fails = True
    call = call_of()
    tracker.begin(call)
    with pytest.raises(KeyError, match="stopped"), LiveDropout(call):
        twin(X)
    assert call.seen.modules == []
    assert call.seen.open_gates == 0
    twin[0][0].fails = False
    again = call_of(opened=True)
    tracker.begin(again)
    with LiveDropout(again):
        assert torch.equal(twin(X), X)
    assert [site.name for site in again.seen.sites] == ["0.0"]
    assert again.seen.open_gates == 0


def test_gates_of_rates_are_open_in_passes_and_closed_in_the_plain_model() -> None:
    twin, tracker = tracked(nn.Sequential(Attention(), nn.BatchNorm1d(5), nn.Dropout()))
    for call, is_open in ((call_of(), True), (None, False), (call_of(opened=True), True)):
        tracker.begin(call)
        # Nothing but the gate is ever in training mode.
        assert [m.training for m in twin.modules()] == [False, is_open, False, False]


def test_modules_that_draw_numbers_do_so_unless_every_unit_is_kept() -> None:
    twin, tracker = tracked(nn.Sequential(DropPath(0.25)))
    live = call_of()
    tracker.begin(live)
    with LiveDropout(live):
        found = twin(X)
    assert bool(((found == 0) | ((found - 1 / 0.75).abs() < 1e-6)).all())
    kept = call_of(opened=True)
    tracker.begin(kept)
    with LiveDropout(kept):
        assert torch.equal(twin(X), X)
    for call in (live, kept):
        (site,) = call.seen.sites
        assert (site.name, site.kind, site.p, site.shape) == ("0", "module", 0.25, (4, 5, 8))
        assert call.seen.open_gates == 0


def test_an_override_is_the_rate_that_the_module_reads() -> None:
    twin, tracker = tracked(nn.Sequential(DropPath(0.25)))
    source = MaskSource(0, torch.device("cpu"))
    call = Call(live_rules(), source, False, Span(), {"0": 0.5})
    tracker.begin(call)
    with LiveDropout(call):
        found = twin(torch.ones(200, 1))
    assert set(found.unique().tolist()) == {0.0, 2.0}


def test_nothing_is_noted_of_the_plain_model() -> None:
    twin, tracker = tracked(nn.Sequential(DropPath(0.25), Attention()))
    tracker.begin(None)
    expected = F.scaled_dot_product_attention(X, X, X)
    torch.testing.assert_close(twin(X), expected)


def test_the_plain_model_is_tracked_with_every_gate_closed() -> None:
    notes, gate = Notes(), DropPath(0.5)
    twin = structural_copy(nn.Sequential(Attention(), gate, notes).eval())
    tracker = Tracker("sample", twin, ())
    call, noting = call_of(opened=True), twin.get_submodule("2")
    assert isinstance(noting, Notes)
    noting.call = call
    tracker.begin(call_of())
    assert [module.training for module in twin.children()] == [True, True, False]
    tracker.begin(call, is_plain=True)
    assert not any(module.training for module in twin.modules())
    assert torch.equal(twin(X), F.scaled_dot_product_attention(X, X, X))
    assert noting.paths == ["2"]
    assert not call.seen.modules
    assert not call.seen.sites


def test_checkpoints_of_gradients_are_switched_off_on_the_copy() -> None:
    model: Any = Notes()
    model.gradient_checkpointing = True
    twin, _ = tracked(model)
    assert (twin.gradient_checkpointing, model.gradient_checkpointing) == (False, True)


@pytest.mark.parametrize("stochastic", [("1",), (Notes,), ("Notes",)])
def test_a_module_that_was_named_has_to_draw_something(stochastic: Any) -> None:
    twin, tracker = tracked(nn.Sequential(nn.Dropout(0.5), Notes()), stochastic)
    call = call_of()
    tracker.begin(call)
    with (
        pytest.raises(mcdrop.UnsupportedError, match="sample: expected `stochastic` to name"),
        LiveDropout(call),
    ):
        twin(X)
