"""Batches and chunks: every row and every pass once, in order, whatever the memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.batch import Batch
from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.schedule import Schedule, list_sites, run_one_pass
from mcdrop._engine.settings import Settings
from mcdrop._masks.source import Span
from tests._engine.models import LateFailure

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
NET = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def settings_of(**options: Any) -> Settings:
    return Settings("sample", NET, {}, **{"seed": 0, **options})


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
@pytest.mark.parametrize("chunk", [1, 7, 20, 100])
def test_every_pass_of_every_batch_runs_once_and_in_order(
    chunk: int, strategy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: list[Span] = []
    original = getattr(Passes, strategy)

    def noted(self: Passes, plan: Plan, batch: Batch, span: Span) -> Tensor:
        spans.append(span)
        out: Tensor = original(self, plan, batch, span)
        return out

    monkeypatch.setattr(Passes, strategy, noted)
    settings = settings_of(batch_size=3, sample_chunk=chunk, strategy=strategy)
    with Schedule(settings, X, 20) as schedule:
        for number, batch in schedule.batches():
            found = list(schedule.passes(number, batch, 0, 20))
            assert sum(map(len, found)) == 20
            assert {x.shape[1] for x in found} == {batch.n_rows}
    ran = [(s.batch, i) for s in spans for i in range(s.first, s.first + s.count)]
    assert ran == [(batch, i) for batch in range(3) for i in range(20)]
    assert max(span.count for span in spans) == min(chunk, 20)


def test_batches_are_numbered_and_cover_the_rows_in_order() -> None:
    with Schedule(settings_of(batch_size=3), X, 2) as schedule:
        found = list(schedule.batches())
    assert [number for number, _ in found] == [0, 1, 2]
    assert [batch.n_rows for _, batch in found] == [3, 3, 2]
    assert torch.equal(torch.cat([batch.args[0] for _, batch in found]), X)


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("first_row", [0, 1000])
def test_the_linear_part_is_that_of_the_same_masks(masks: Any, first_row: int) -> None:
    # In a network that is linear in its masks every pass is the open one plus its linear part.
    options = {"control_variate": True, "masks": masks, "first_row": first_row}
    model = nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 2), nn.Identity()).eval()
    settings = Settings("predict", model, {}, seed=5, batch_size=3, **options)
    with Schedule(settings, X, 16) as schedule:
        for number, batch in schedule.batches():
            found = schedule.linearized(number, batch)
            assert found is not None
            passes = torch.cat(list(schedule.passes(number, batch, 0, 16)))
            open_pass = model(batch.args[0])
            torch.testing.assert_close(passes - open_pass, found.part(0, 16).values)


def test_passes_may_come_in_parts() -> None:
    with Schedule(settings_of(), X, 30) as schedule:
        ((number, batch),) = schedule.batches()
        whole = torch.cat(list(schedule.passes(number, batch, 0, 30)))
        assert schedule.record().n_samples == 30
    with Schedule(settings_of(sample_chunk=4), X, 30) as schedule:
        ((number, batch),) = schedule.batches()
        first = list(schedule.passes(number, batch, 0, 13))
        rest = list(schedule.passes(number, batch, 13, 30))
    torch.testing.assert_close(torch.cat(first + rest), whole)


def test_where_rows_have_left_chunks_hold_more_passes() -> None:
    with Schedule(settings_of(sample_chunk=4), X, 40) as schedule:
        ((number, batch),) = schedule.batches()
        list(schedule.passes(number, batch, 0, 4))
        sizes = [len(chunk) for chunk in schedule.passes(number, batch, 4, 40, fewer_rows=3)]
    assert sizes == [12, 12, 12]


def test_gradients_are_off_within_and_as_before_after() -> None:
    with Schedule(settings_of(), X, 2):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    with pytest.raises(KeyError), Schedule(settings_of(), X, 2):
        raise KeyError
    assert torch.is_grad_enabled()


def test_without_a_batch_there_is_no_record() -> None:
    with (
        Schedule(settings_of(), X, 2) as schedule,
        pytest.raises(RuntimeError, match="record: no batch has run"),
    ):
        schedule.record()


def test_run_tells_what_happened() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))
    run = mcdrop.wrap(model).predict_with_uncertainty(X, n_samples=30, seed=5, batch_size=3).run
    assert run is not None
    assert (run.seed, run.n_samples, run.batch_size, run.sample_chunk) == (5, 30, 3, 30)
    assert (run.device, run.dtype, run.masks) == ("cpu", "float32", "independent")
    assert run.reason == "with every mask open it reproduces model(x)"
    assert [site.name for site in run.sites] == ["0"]
    assert run.seconds > 0


def test_seed_drawn_by_a_prediction_reproduces_it() -> None:
    mc = mcdrop.wrap(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)))
    first = mc.predict_with_uncertainty(X, control_variate=False)
    assert first.run is not None
    again = mc.predict_with_uncertainty(X, seed=first.run.seed, control_variate=False)
    assert torch.equal(first.mean, again.mean)
    other = mc.predict_with_uncertainty(X, control_variate=False)
    assert not torch.equal(first.mean, other.mean)


def test_a_batch_that_cannot_be_batched_is_not_lost() -> None:
    x = torch.cat([X.abs(), -X.abs()])
    mc = mcdrop.wrap(LateFailure())
    prediction = mc.predict_with_uncertainty(
        x, n_samples=20, seed=0, batch_size=8, task="regression"
    )
    assert prediction.run is not None
    assert prediction.run.strategy == "sequential"
    assert "batch 1 could not be batched over passes" in prediction.run.reason
    assert len(prediction) == 16


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 TB"),
    ],
)
def test_chunks_are_halved_until_they_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    expected = mcdrop.wrap(net).predict_with_uncertainty(X, n_samples=50, seed=0)
    original = Passes.vectorized
    seen: list[int] = []

    def scarce(self: Passes, plan: Plan, batch: Any, span: Span) -> torch.Tensor:
        seen.append(span.count)
        if span.count > 7 and span.first + span.count > 20:
            raise error
        return original(self, plan, batch, span)

    monkeypatch.setattr(Passes, "vectorized", scarce)
    found = mcdrop.wrap(net).predict_with_uncertainty(X, n_samples=50, seed=0)
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.epistemic_variance, expected.epistemic_variance)
    assert found.n_samples == 50
    assert found.run is not None
    assert found.run.sample_chunk == 6
    assert "memory ran out" in found.run.reason
    assert seen[:4] == [50, 25, 12, 12]


def test_running_out_of_memory_with_one_pass_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any, **__: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Passes, "vectorized", none_left)
    monkeypatch.setattr(Passes, "sequential", none_left)
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))
    with pytest.raises(torch.OutOfMemoryError):
        mcdrop.wrap(net).sample(X, 10)


def test_sites_and_single_passes_need_no_schedule() -> None:
    (site,) = list_sites(settings_of(batch_size=3), X)
    assert (site.name, site.shape) == ("1", (3, 8))
    out = run_one_pass(settings_of(), Batch((X,), {}, None))
    assert out.shape == (8, 1)
    assert out.requires_grad


def test_a_single_pass_is_that_of_its_seed() -> None:
    first, again, other = (
        run_one_pass(settings_of(seed=seed), Batch((X,), {}, None)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rows_are_numbered_from_the_first_one_on() -> None:
    batches = [X[:3], X[3:5], X[5:]]
    with Schedule(settings_of(first_row=10), batches, 2) as schedule:
        found = [batch.numbers for _, batch in schedule.batches()]
    assert found == [range(10, 13), range(13, 15), range(15, 18)]


def test_rows_are_looked_at_in_every_batch_before_they_are_split() -> None:
    class Trims(nn.Module):
        """Scales by the longest sequence of the batch, as one that trims its inputs does."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.drop = nn.Linear(8, 256), nn.Dropout(0.1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            longest = (x != 0).sum(dim=1).amax()
            return self.drop(self.body(x)).sum(dim=1, keepdim=True) / longest

    torch.manual_seed(0)
    net = Trims().eval()
    mc = mcdrop.wrap(net)
    equal = torch.randn(10_000, 8)
    unequal = equal.clone()
    unequal[1:, 2:] = 0
    run = mc.predict_with_uncertainty(equal, n_samples=4, seed=0).run
    assert run is not None
    assert run.batch_size is not None
    for inputs in (unequal, [equal, unequal]):
        mean = torch.as_tensor(mc.predict_with_uncertainty(inputs, n_samples=64, seed=0).mean)
        with torch.no_grad():
            expected = net(unequal)
        found = mean[-len(unequal) :]
        assert float((found - expected).abs().mean() / expected.abs().mean()) < 0.2


@pytest.mark.parametrize("sample_chunk", [1, 4, None])
def test_a_shape_that_changes_by_pass_is_refused_by_name(sample_chunk: int | None) -> None:
    class Varies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.drop(x)
            return h[:, : 2 + int(h[0, 0] > 0)]

    text = r"the same shape in every pass, but got shapes \[\(6, 2\), \(6, 3\)\]"
    with pytest.raises(mcdrop.ShapeError, match=text):
        mcdrop.predict_with_uncertainty(
            Varies(),
            torch.ones(6, 4),
            n_samples=20,
            seed=0,
            sample_chunk=sample_chunk,
            task="regression",
        )
