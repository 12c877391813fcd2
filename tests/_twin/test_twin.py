"""Copies are kept, taken by one thread at a time, and never in place of another model."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._twin.copy import recorded_copy
from mcdrop._twin.twin import Spares, Twin
from tests._twin.test_original import CHANGES, Rich

CPU = torch.device("cpu")
X = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))


def copied(model: nn.Module) -> Twin:
    return Twin("sample", model, (), device=CPU, dtype=None)


def samples(mc: mcdrop.MCDropout, x: torch.Tensor = X) -> torch.Tensor:
    first = next(mc.model.parameters())
    return mc.sample(x.to(first.dtype), n_samples=4, seed=0)


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrapper_answers_like_a_new_one_after_any_change(name: str) -> None:
    torch.manual_seed(0)
    model = Rich().eval()
    mc = mcdrop.wrap(model)
    samples(mc)
    CHANGES[name](model)
    assert torch.equal(samples(mc), samples(mcdrop.wrap(model)))


@pytest.mark.parametrize("way", ["in place", "through data", "in training", "not a number"])
def test_values_of_tensors_are_taken_over(way: str) -> None:
    torch.manual_seed(0)
    model = Rich().eval()
    mc = mcdrop.wrap(model)
    before = samples(mc)
    mean: Any = model.norm.running_mean
    with torch.no_grad():
        if way == "in place":
            mean.add_(1), model.first.weight.add_(1), model.plain.mul_(2)
        elif way == "through data":
            mean.data.add_(1), model.first.weight.data.add_(1), model.plain.data.mul_(2)
        elif way == "in training":
            model.train()(X + 3)
            model.eval()
        else:
            model.norm.register_buffer("other", torch.tensor(torch.nan))
            samples(mc)
            mean.add_(1)
    after = samples(mc)
    assert not torch.equal(after, before)
    assert torch.equal(after, samples(mcdrop.wrap(model)))


def test_a_copy_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Module] = []

    def noted(model: nn.Module, **options: Any) -> Any:
        made.append(model)
        return recorded_copy(model, **options)

    monkeypatch.setattr("mcdrop._twin.twin.recorded_copy", noted)
    mc = mcdrop.wrap(Rich().eval())
    for _ in range(3):
        samples(mc)
    assert len(made) == 1
    mc.model = Rich().eval()
    samples(mc)
    assert len(made) == 2


def test_a_prediction_that_fails_keeps_no_copy() -> None:
    mc = mcdrop.wrap(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)))
    with pytest.raises(mcdrop.McdropError):
        mc.sample(torch.full((2, 3), torch.nan), n_samples=2)
    assert len(mc._memory.spares) == 0
    mc.sample(X, n_samples=2)
    assert len(mc._memory.spares) == 1


def test_threads_take_a_copy_each() -> None:
    torch.manual_seed(0)
    model = Rich().eval()
    mc, plain = mcdrop.wrap(model), model(X)
    expected = [mcdrop.wrap(model).sample(X, n_samples=8, seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: mc.sample(X, n_samples=8, seed=seed), range(12)))
    assert all(map(torch.equal, found, expected))
    assert torch.equal(model(X), plain)
    assert 1 <= len(mc._memory.spares) <= 4


def test_spares_are_for_one_kind_and_few() -> None:
    spares, model = Spares(), Rich()
    for _ in range(6):
        spares.keep("a", copied(model))
    assert len(spares) == 4
    assert spares.take("b", model) is None
    taken = spares.take("a", model)
    assert taken is not None
    assert taken.model is model
    assert spares.take("a", Rich()) is None
    assert len(spares) == 0, "copies of another model are of no use"


def test_a_copy_that_cannot_be_watched_is_not_kept() -> None:
    model = Rich()
    model.generator = torch.Generator()  # type: ignore[assignment]
    spares = Spares()
    spares.keep("a", copied(model))
    assert len(spares) == 0


def test_copies_stay_in_their_process() -> None:
    mc = mcdrop.wrap(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)))
    mc.sample(X, n_samples=2)
    assert len(mc._memory.spares) == 1
    for other in (copy.deepcopy(mc), pickle.loads(pickle.dumps(mc))):
        assert len(other._memory.spares) == 0
        assert torch.equal(samples(other), samples(mc))


def test_inference_mode_has_copies_of_its_own() -> None:
    model = Rich().eval()
    mc = mcdrop.wrap(model)
    with torch.inference_mode():
        inside = samples(mc)
    with torch.no_grad():
        model.norm.running_mean.add_(1)  # type: ignore[union-attr]
    assert torch.equal(samples(mc), samples(mcdrop.wrap(model)))
    assert not torch.equal(samples(mc), inside)


def test_one_pass_leaves_its_copy_only_without_gradients() -> None:
    mc = mcdrop.wrap(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)))
    loss = mc(X).sum()
    assert len(mc._memory.spares) == 0
    loss.backward()
    with torch.no_grad():
        mc(X)
    assert len(mc._memory.spares) == 1
