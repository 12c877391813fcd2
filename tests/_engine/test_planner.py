"""What a look at the model decides: the strategy and why, once for inputs of a kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._engine.planner import _difference, ran_out_of_memory
from tests._engine.models import Branch, CountsCalls, Inconstant, InPlaceWrite
from tests.passes import draw, plans

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
NET = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


@pytest.mark.parametrize("model", [InPlaceWrite(), Branch()])
def test_what_vmap_cannot_batch_runs_sequentially_and_says_so(model: nn.Module) -> None:
    prediction = mcdrop.wrap(model).predict_with_uncertainty(
        X, n_samples=50, seed=0, task="regression"
    )
    assert prediction.run is not None
    assert prediction.run.strategy == "sequential"
    assert prediction.run.reason.startswith("the model cannot be batched over passes: ")
    assert bool((prediction.epistemic_variance[:, :2] > 0).all())


def test_a_model_that_differs_from_itself_is_not_vectorized() -> None:
    prediction = mcdrop.wrap(Inconstant()).predict_with_uncertainty(
        X, n_samples=4, seed=0, task="regression"
    )
    assert prediction.run is not None
    assert prediction.run.strategy == "sequential"
    assert "random operation" in prediction.run.reason


def test_a_second_prediction_remembers_what_the_first_found_out() -> None:
    calls = itertools.count()
    model = nn.Sequential(CountsCalls(calls), nn.Dropout(0.5), nn.Linear(4, 1))
    mc = mcdrop.wrap(model)
    first = mc.predict_with_uncertainty(X, seed=0, task="regression")
    n_first = next(calls)
    second = mc.predict_with_uncertainty(X, seed=0, task="regression")
    assert next(calls) - n_first - 1 == 1
    assert torch.equal(first.mean, second.mean)
    assert first.run is not None
    assert second.run is not None
    assert first.run.reason == second.run.reason


def test_what_is_remembered_does_not_hide_a_changed_model() -> None:
    drop = nn.Dropout(0.5)
    model = nn.Sequential(drop, nn.Linear(4, 1))
    mc = mcdrop.wrap(model)
    mc.predict_with_uncertainty(X, task="regression")
    drop.p = 0.25
    run = mc.predict_with_uncertainty(X, task="regression").run
    assert run is not None
    assert run.sites[0].p == 0.25
    drop.p = 0.0
    with pytest.raises(mcdrop.NoDropoutError):
        mc.predict_with_uncertainty(X, task="regression")
    drop.p = 0.5
    model[1] = Branch()
    run = mc.predict_with_uncertainty(X, task="regression").run
    assert run is not None
    assert run.strategy == "sequential"


def test_selections_that_differ_only_in_what_they_close_over_are_told_apart() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            h = self.drop(x)
            # A Python loop over values that differ by pass cannot be batched.
            return self.head(h), h + torch.stack([row * row.sum().item() for row in x.unbind()])

    mc = mcdrop.wrap(Two())
    shapes = []

    def output(place: int) -> Callable[[Any], torch.Tensor]:
        return lambda outputs: outputs[place]

    for place in (0, 1, 0):
        prediction = mc.predict_with_uncertainty(
            X, n_samples=4, select=output(place), task="regression"
        )
        assert prediction.run is not None
        shapes.append(prediction.mean.shape)
    assert shapes == [(8, 3), (8, 4), (8, 3)]
    assert len(plans(mc._memory)) == 2


@pytest.mark.parametrize("model", [InPlaceWrite(), Branch(), Inconstant()])
def test_a_strategy_that_is_not_possible_is_refused_by_name(model: nn.Module) -> None:
    with pytest.raises(
        mcdrop.UnsupportedError,
        match=r"sample: expected `strategy` to be 'auto' or 'sequential' for this model, but got "
        r"'vectorized': .*(cannot be batched over passes|the output is off by).*Leave it out",
    ):
        draw(model, X, 4, "vectorized")


def test_a_strategy_that_was_asked_for_is_the_reason() -> None:
    found, run = draw(NET, X, 20, "sequential")
    assert (run.strategy, run.reason, run.sample_chunk) == ("sequential", "asked for", 20)
    torch.testing.assert_close(found, draw(NET, X, 20)[0])


def test_one_pass_at_a_time_needs_no_batching_over_passes() -> None:
    _, run = draw(NET, X, 20, sample_chunk=1)
    assert run.strategy == "sequential"
    assert run.reason == "one pass over this batch already fills the memory set aside for it"
    _, asked = draw(NET, X, 20, "vectorized", sample_chunk=1)
    assert (asked.strategy, asked.sample_chunk) == ("vectorized", 1)


def test_a_chunk_holds_no_more_passes_than_there_are() -> None:
    assert draw(NET, X, 20, sample_chunk=7)[1].sample_chunk == 7
    assert draw(NET, X, 20, sample_chunk=70)[1].sample_chunk == 20


def test_other_shapes_and_types_are_looked_at_anew() -> None:
    calls = itertools.count()
    mc = mcdrop.wrap(nn.Sequential(CountsCalls(calls), nn.Dropout(0.5)))
    looks = []
    for inputs in (X, X[:4], X.double(), X, (X,), {"input": X}):
        before = next(calls)
        mc.sample(inputs, 4, seed=0)
        # One chunk; a look is the plain model and two passes in one call.
        looks.append(next(calls) - before - 1 > 1)
    assert looks == [True, True, True, False, False, True]
    assert len(plans(mc._memory)) == 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_memory_that_ran_out_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert ran_out_of_memory(error) == expected


def test_passes_that_round_differently_agree_and_others_are_described() -> None:
    plain = torch.tensor([100.0, float("nan"), float("inf")])
    # The tolerance for float32 is sqrt(2^-23) = 3.5e-4 of the largest finite value.
    assert _difference(torch.stack([plain, plain + 0.03]), plain) is None
    assert _difference(torch.stack([plain, plain + 0.05]), plain) == "0.05"
    assert _difference(plain.double()[None], plain) == "its type, torch.float64 for torch.float32"
    assert _difference(plain[None, :2], plain) == "its shape, (2,) for (3,)"
    assert _difference(torch.zeros(2, 3), torch.zeros(3)) is None


def test_nan_where_the_model_has_none_is_a_difference() -> None:
    plain = torch.ones(2)
    assert _difference(torch.tensor([[1.0, float("nan")]]), plain) is not None


class Hidden(nn.Module):
    """Dropout by an operator that has no rule."""

    def __init__(self, n_rows: int | None) -> None:
        super().__init__()
        self.n_rows = n_rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ones = torch.ones(len(x) if self.n_rows is None else self.n_rows, x.shape[1])
        return x * torch.native_dropout(ones, 0.5, self.training)[0]


def test_shared_masks_are_refused_where_rows_have_masks_of_their_own_unseen() -> None:
    x = torch.ones(6, 5)
    with pytest.raises(mcdrop.UnsupportedError, match="`masks` to be 'independent' for a model"):
        draw(Hidden(None), x, 8, masks="shared")
    for found in (draw(Hidden(1), x, 8, masks="shared")[0], draw(Hidden(None), x, 8)[0]):
        assert set(found.unique().tolist()) == {0.0, 2.0}
    shared, _ = draw(Hidden(1), x, 8, masks="shared")
    assert torch.equal(shared, shared[:, :1].expand_as(shared))
