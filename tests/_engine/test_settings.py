"""Settings: what a plan depends on is in the signature, and nonsense is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._engine.outputs import Selection
from mcdrop._engine.settings import Settings
from mcdrop._live.rules import registry
from mcdrop._live.sites import DropoutSite

SITE = DropoutSite("drop", "dropout", 0.5, 0, (4, 6), True)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1))


def settings_of(model: nn.Module, **options: Any) -> Settings:
    return Settings("sample", model, {}, **options)


CHANGES: dict[str, Callable[[Any], object]] = {
    "rate": lambda model: setattr(model[2], "p", 0.25),
    "string": lambda model: setattr(model[1], "mode", "other"),
    "new attribute": lambda model: setattr(model, "scale", 2.0),
    "module": lambda model: setattr(model, "2", nn.AlphaDropout(0.5)),
    "name": lambda model: model.add_module("4", nn.Identity()),
    "shape": lambda model: setattr(model[3], "weight", nn.Parameter(torch.ones(2, 6))),
    "buffer": lambda model: model[3].register_buffer("b", torch.ones(2)),
    "type": lambda model: model.double(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_signature_changes_with_the_model(change: Callable[[Any], object]) -> None:
    model = net()
    settings = settings_of(model)
    before = settings.signature()
    assert settings.signature() == before
    change(model)
    assert settings.signature() != before


def test_the_signature_does_not_change_with_weights_and_training_mode() -> None:
    model = net().eval()
    settings = settings_of(model)
    before = settings.signature()
    model.train()
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(2)
        model.get_buffer("1.running_mean").add_(1)
    assert settings.signature() == before
    assert hash(settings.signature()) == hash(before)


@pytest.mark.parametrize(
    ("options", "matters"),
    [
        ({"rates": {"2": 0.1}}, True),
        ({"masks": "shared"}, True),
        ({"stochastic": ("0",)}, True),
        ({"exact_last": True}, True),
        ({"selection": Selection("logits")}, True),
        ({"dtype": torch.float64}, True),
        ({"seed": 3}, False),
        ({"batch_size": 3}, False),
        ({"sample_chunk": 3}, False),
        ({"stratified": False}, False),
        ({"strategy": "sequential"}, False),
        ({"progress": True}, False),
    ],
)
def test_the_signature_changes_with_the_options_that_matter(
    options: dict[str, Any], matters: bool
) -> None:
    settings = settings_of(net())
    assert (replace(settings, **options).signature() != settings.signature()) == matters


def test_autocast_and_registered_rules_are_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(net())
    before = settings.signature()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert settings.signature() != before
    monkeypatch.setattr(registry, "_FORWARDS", {})
    mcdrop.register_rule(nn.Identity)(lambda module, x: x)
    assert settings.signature() != before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "`batch_size` to be an integer of at least 1, but got 0"),
        ({"sample_chunk": 2.5}, "`sample_chunk` to be an integer of at least 1, but got 2.5"),
        ({"seed": -1}, "`seed` to be an integer of at least 0, but got -1"),
        ({"seed": True}, "`seed` to be an integer of at least 0, but got True"),
        ({"strategy": "fast"}, "`strategy` to be one of .*, but got 'fast'"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(mcdrop.RangeError, match="sample: expected " + text):
        settings_of(net(), **options)


def test_the_place_is_that_of_the_model_unless_another_is_asked_for() -> None:
    assert settings_of(nn.Dropout()).place() == torch.device("cpu")
    on_meta = nn.Linear(1, 1, device="meta")
    assert settings_of(on_meta).place() == torch.device("meta")
    assert settings_of(on_meta, device="cpu").place() == torch.device("cpu")
    with_buffer = nn.BatchNorm1d(2, affine=False, device="meta")
    assert settings_of(with_buffer).place() == torch.device("meta")


def test_rates_may_name_a_site_its_repeats_or_all() -> None:
    again = replace(SITE, name="drop#2")
    for rates in ({"drop": 0.1}, {"drop#2": 0.1}, {"": 0.1}, {}):
        Settings("sample", net(), rates).check_sites([SITE, again])
    with pytest.raises(mcdrop.RangeError, match=r"among \['drop'\], but got \['dorp', 'drop#2'\]"):
        Settings("sample", net(), {"drop#2": 0.1, "dorp": 0.2}).check_sites([SITE])


def test_one_site_that_fires_is_enough() -> None:
    never = replace(SITE, name="never", p=0.0, fired=False)
    settings = settings_of(net())
    settings.check_live([never, SITE])
    with pytest.raises(mcdrop.NoDropoutError, match=r"Sequential with never \(p=0\)"):
        settings.check_live([never])
    with pytest.raises(mcdrop.NoDropoutError, match=r"without any \(has 2, but never called it\)"):
        settings.check_live([])


def test_a_model_without_tensors_runs_where_its_inputs_are() -> None:
    x = torch.empty(2, 3, device="meta")
    settings = settings_of(nn.Dropout())
    assert settings.placed({"x": (x,)}).place() == torch.device("meta")
    assert settings.placed((1, "x")).place() == torch.device("cpu")
    assert settings_of(net()).placed(x).place() == torch.device("cpu")
    assert settings_of(nn.Dropout(), device="cpu").placed(x).place() == torch.device("cpu")
