"""A prediction goes on with another copy where the model writes to its own parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcdrop._engine.in_use import TwinInUse
from mcdrop._engine.settings import Settings
from mcdrop._live.memory import address

CPU = torch.device("cpu")


def in_use(model: nn.Module, settings: Settings | None = None) -> TwinInUse:
    return TwinInUse(settings or Settings("sample", model.eval(), {}), CPU)


def test_parameters_are_shared_until_one_is_written_to() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    copy = in_use(model)
    assert copy.shared == {address(x) for x in model.parameters()} == copy.weights
    at = address(model[0].weight)
    copy.own_parameter(at)
    assert at not in copy.shared
    assert at not in copy.weights
    assert address(model[0].bias) in copy.shared


def test_a_kept_copy_is_taken_again_with_what_was_found_of_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()
    settings = Settings("sample", model, {})
    first = in_use(model, settings)
    first.keep()
    second = in_use(model, settings)
    assert second.twin is first.twin
    assert second.signature == first.signature
    assert hash(second.signature) == hash(first.signature)
    assert in_use(model, settings).twin is not first.twin


def test_hooks_forbid_placeholders() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    assert in_use(model).may_defer
    model[0].register_forward_hook(lambda *_: None)
    assert not in_use(model).may_defer


class Gated(nn.Module):
    """Drops units only where its flag says so."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5 if self.training else 0.0)


def test_what_watching_found_is_taken_over_by_the_next_copy() -> None:
    from mcdrop._engine.batch import Batch

    model = nn.Sequential(nn.Linear(2, 2), Gated())
    copy = in_use(model)
    copy.watch(Batch((torch.randn(3, 2),), {}, 3))
    assert copy.found is not None
    assert "1 modules get their training flag" in copy.watched
    copy.own_parameter(address(model[0].weight))
    assert copy.twin.tracker._rate_gates == [copy.twin.module.get_submodule("1")]
