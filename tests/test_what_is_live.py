"""Each model of the zoo: every site alive, nothing else, and the model untouched."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._engine.record import Run
from mcdrop._engine.settings import AskedStrategy
from tests import passes
from tests.zoo import ZOO, Entry, page

pytestmark = pytest.mark.filterwarnings(
    "ignore:dropout option adds dropout after all but last:UserWarning",
    "ignore:.*nested tensors is in prototype stage:UserWarning",
    "ignore:enable_nested_tensor is True:UserWarning",
    "ignore:LSTM with projections is not supported with oneDNN:UserWarning",
    "ignore:(?s).*were assigned during export:UserWarning",
    "ignore::DeprecationWarning",
)
# The slowest model has a second kind of attention, which others have as well.
SLOW = ("transformers T5Model (sdpa)",)
# What takes these models seconds is shown on smaller ones of their kind as well.
LARGE = (
    *SLOW,
    *(f"transformers {name}Model (eager)" for name in ("T5", "Wav2Vec2")),
    *(f"transformers {name}Model" for name in ("Swin", "ConvNext")),
    "transformers Wav2Vec2Model (sdpa)",
)


def entries(chosen: Sequence[Entry], slow: Sequence[str] = SLOW) -> pytest.MarkDecorator:
    found = [
        pytest.param(e, id=e.name, marks=[pytest.mark.slow] if e.name in slow else [])
        for e in chosen
    ]
    return pytest.mark.parametrize("entry", found)


ENTRIES = entries(ZOO)


def draw(
    entry: Entry,
    made: tuple[nn.Module, Any],
    n: int,
    strategy: AskedStrategy = "auto",
    **options: Any,
) -> tuple[torch.Tensor, Run]:
    model, inputs = made
    return passes.draw(model, inputs, n, strategy, select=entry.select, **options)


def call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def chosen(entry: Entry, output: Any) -> torch.Tensor:
    if isinstance(entry.select, str):
        output = getattr(output, entry.select)
    elif isinstance(entry.select, int):
        output = output[entry.select]
    elif entry.select is not None:
        output = entry.select(output)
    assert isinstance(output, torch.Tensor)
    return output


def numpy_state() -> list[int]:
    state: Any = np.random.get_state(legacy=True)
    return list(state[1])


@entries(ZOO, LARGE)
def test_every_site_alone_spreads_the_output(entry: Entry) -> None:
    made = entry.make()
    _, run = draw(entry, made, 2)
    assert run.sites
    for site in run.sites:
        alone = {other.name: 0.0 for other in run.sites} | {site.name: max(site.p, 0.3)}
        found, only = draw(entry, made, 12, rates=alone)
        assert [s.name for s in only.sites if s.fired] == [site.name]
        assert found.std(dim=0).max().item() > 1e-7, f"{site.name} does not spread the output"


@ENTRIES
def test_rate_zero_reproduces_the_model(entry: Entry) -> None:
    model, inputs = entry.make()
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    mc = mcdrop.wrap(model, p=0.0)
    with torch.no_grad():
        output = mc(**inputs) if isinstance(inputs, dict) else mc(*args)
    found = chosen(entry, output)
    if entry.without is not None:
        with torch.no_grad():
            expected = entry.without(inputs)
    else:
        expected = chosen(entry, call(model, inputs))
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


@ENTRIES
def test_strategies_agree_and_a_fallback_is_named(entry: Entry) -> None:
    made = entry.make()
    found, run = draw(entry, made, 6)
    assert run.strategy == ("sequential" if entry.sequential else "vectorized"), run.reason
    if entry.sequential:
        assert entry.sequential in run.reason
    alone, _ = draw(entry, made, 6, "sequential")
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


@ENTRIES
def test_nothing_of_the_model_or_the_random_state_changes(entry: Entry) -> None:
    model, inputs = entry.make()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    before = (
        torch.get_rng_state(),
        numpy_state(),
        random.getstate(),
    )
    draw(entry, (model, inputs), 3)
    draw(entry, (model, inputs), 3, "sequential")
    after = (torch.get_rng_state(), numpy_state(), random.getstate())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert flags == [module.training for module in model.modules()]
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


@entries([e for e in ZOO if e.native], LARGE)
def test_mean_and_variance_are_those_of_torchs_own_train_mode(entry: Entry) -> None:
    model, inputs = entry.make()
    ours, _ = draw(entry, (model, inputs), 1500)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    n_native = 600
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        native = torch.stack([chosen(entry, call(model, inputs)) for _ in range(n_native)])
    flat, other = ours.flatten(1).double(), native.flatten(1).double()
    # A few random directions, so that one number per law is tested rather than thousands.
    directions = torch.randn(flat.shape[1], 3, generator=torch.Generator().manual_seed(4)).double()
    flat, other = flat @ directions, other @ directions
    standard_error = (flat.var(dim=0) / len(flat) + other.var(dim=0) / n_native).sqrt()
    z = (flat.mean(dim=0) - other.mean(dim=0)).abs() / standard_error
    assert bool((z < 4.5).all()), z
    fourth = ((flat - flat.mean(dim=0)) ** 4).mean(dim=0)
    spread = ((fourth - flat.var(dim=0).square()) * (1 / len(flat) + 1 / n_native)).sqrt()
    assert bool(((flat.var(dim=0) - other.var(dim=0)).abs() < 4.5 * spread).all())


@ENTRIES
def test_shared_masks_make_one_function_for_all_rows_and_batches(entry: Entry) -> None:
    model, inputs = entry.make()
    if isinstance(inputs, tuple):
        pytest.skip("several tensors that do not all have rows first")
    tensors = inputs if isinstance(inputs, dict) else {"x": inputs}
    twice = {name: torch.cat([value[:1], value[:1], value[:1]]) for name, value in tensors.items()}
    repeated = twice if isinstance(inputs, dict) else twice["x"]
    if "packed" in entry.name or "padding" in entry.name or "export" in entry.name:
        pytest.skip("lengths or shapes are fixed by the model")
    if entry.group == "Recurrent" and not getattr(model, "batch_first", True):
        pytest.skip("time first")
    found, run = draw(entry, (model, repeated), 16, masks="shared")
    assert run.masks == "shared"
    torch.testing.assert_close(found, found[:, :1].expand_as(found), rtol=1e-4, atol=1e-5)
    assert found.std(dim=0).max().item() > 1e-7
    one = {name: value[:1] for name, value in twice.items()}
    alone = one if isinstance(inputs, dict) else one["x"]
    single, _ = draw(entry, (model, alone), 16, masks="shared")
    torch.testing.assert_close(single, found[:, :1], rtol=1e-4, atol=1e-5)


def test_the_page_says_what_the_zoo_knows() -> None:
    written = (Path(__file__).parent.parent / "docs" / "what-is-live.md").read_text()
    assert written.rstrip("\n") == page()
