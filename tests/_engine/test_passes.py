"""Which strategy runs, what `run` says about it, and that nothing is computed or kept twice."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._engine.moments import Moments, PassGroups
from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Plan
from mcdrop._masks.numpy_kernels import Workspace
from mcdrop._masks.source import Span
from tests.passes import plans

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


class InPlaceWrite(nn.Module):
    """Writes a dropped-out tensor into a fresh one: vmap cannot batch it."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(x)
        out[:, :2] = self.drop(x)[:, :2]
        return out


class Branch(nn.Module):
    """Chooses its path from dropped-out values."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(x)
        return x if x.sum().item() > 0 else -x


class Inconstant(nn.Module):
    """Answers differently each time it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.drop(self.body(x)) * self.calls


class LateFailure(nn.Module):
    """Can be batched, unless the rows are negative."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        positive = x.sum().item() > 0
        x = self.drop(x)
        return x if positive else x * x.mean().item()


class CountsCalls(nn.Module):
    """Counts how often it runs, in a counter that copies share."""

    def __init__(self, calls: Iterator[int]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        next(self.calls)
        return x


@pytest.mark.parametrize("model", [InPlaceWrite(), Branch()])
def test_what_vmap_cannot_batch_runs_sequentially_and_says_so(model: nn.Module) -> None:
    prediction = mcdrop.wrap(model).predict_with_uncertainty(X, n_samples=50, seed=0)
    assert prediction.run is not None
    assert prediction.run.strategy == "sequential"
    assert prediction.run.reason.startswith("the model cannot be batched over passes: ")
    assert bool((prediction.epistemic_variance[:, :2] > 0).all())


def test_deferred_layers_take_no_memory_so_chunks_are_larger() -> None:
    chunks = []
    for after in ([], [nn.LayerNorm(2000)]):
        layers = [nn.Dropout(0.5), nn.Linear(2000, 1)]
        net = nn.Sequential(nn.Linear(4, 2000), nn.Dropout(0.5), nn.Linear(2000, 2000))
        net.extend([*after, *layers])
        run = mcdrop.wrap(net).predict_with_uncertainty(X, n_samples=5000, seed=0).run
        assert run is not None
        chunks.append(run.sample_chunk)
    # LayerNorm reads 2000 numbers of 8 rows, so that 131 passes fill the cache.
    assert chunks == [2048, 128]


def test_a_model_that_differs_from_itself_is_not_vectorized() -> None:
    prediction = mcdrop.wrap(Inconstant()).predict_with_uncertainty(X, n_samples=4, seed=0)
    assert prediction.run is not None
    assert prediction.run.strategy == "sequential"
    assert "with every mask open, the output is off by" in prediction.run.reason


def test_a_batch_that_cannot_be_batched_is_not_lost() -> None:
    x = torch.cat([X.abs(), -X.abs()])
    mc = mcdrop.wrap(LateFailure())
    prediction = mc.predict_with_uncertainty(x, n_samples=20, seed=0, batch_size=8)
    assert prediction.run is not None
    assert prediction.run.strategy == "sequential"
    assert "batch 1 could not be batched over passes" in prediction.run.reason
    assert len(prediction) == 16


def test_the_part_before_the_first_dropout_runs_once_per_chunk() -> None:
    calls = itertools.count()
    model = nn.Sequential(CountsCalls(calls), nn.Dropout(0.5), nn.Linear(4, 1))
    prediction = mcdrop.wrap(model).predict_with_uncertainty(X, n_samples=100, sample_chunk=50)
    assert prediction.run is not None
    assert prediction.run.strategy == "vectorized"
    # The plain model, the check with open masks, and two chunks of passes.
    assert next(calls) == 4


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
    first = mc.predict_with_uncertainty(X)
    assert first.run is not None
    again = mc.predict_with_uncertainty(X, seed=first.run.seed)
    assert torch.equal(first.mean, again.mean)
    assert not torch.equal(first.mean, mc.predict_with_uncertainty(X).mean)


def test_moments_that_have_been_read_go_on() -> None:
    passes = torch.randn(96, 5, generator=torch.Generator().manual_seed(0))
    read, unread = (Moments(PassGroups(None, stratified=True)) for _ in range(2))
    for number, chunk in enumerate(passes.split(32)):
        read.update(chunk)
        unread.update(chunk)
        if number < 2:
            assert bool((read.mean_error > 0).all())
            assert bool((read.variance > 0).all())
    assert torch.equal(read.mean_error, unread.mean_error)
    assert torch.equal(read.variance, unread.variance)


@pytest.mark.parametrize("sizes", [[100], [1] * 100, [7, 50, 43]])
def test_streamed_moments_equal_those_of_all_passes(sizes: list[int]) -> None:
    passes = torch.randn(100, 5, generator=torch.Generator().manual_seed(1)) + 3
    moments = Moments()
    for chunk in passes.split(sizes):
        moments.update(chunk)
    torch.testing.assert_close(moments.mean, passes.double().mean(dim=0))
    torch.testing.assert_close(moments.variance, passes.double().var(dim=0))


def test_small_spread_around_a_large_mean_keeps_its_digits() -> None:
    noise = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    passes = (1000 + 0.01 * noise).float()
    moments = Moments()
    for chunk in passes.split(10):
        moments.update(chunk)
    torch.testing.assert_close(moments.variance, passes.double().var(dim=0), rtol=1e-9, atol=0)


def test_progress_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    mc = mcdrop.wrap(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)))
    mc.sample(X, 10)
    assert capfd.readouterr() == ("", "")
    for batch_size, total in ((None, "10/10"), (4, "20/20")):
        mc.sample(X, 10, progress=True, batch_size=batch_size)
        out, err = capfd.readouterr()
        assert out == ""
        assert total in err


def test_sites_tell_the_share_of_work_before_them() -> None:
    model = nn.Sequential(
        nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 6), nn.Dropout(0.0), nn.Linear(6, 2)
    )
    sites = mcdrop.wrap(model).sites(X)
    # Multiplications per row: 4 * 6 + 6 * 6 + 6 * 2 = 72.
    assert [site.flops_before for site in sites] == pytest.approx([24 / 72, 60 / 72])
    assert [site.fired for site in sites] == [True, False]


@pytest.mark.parametrize("rnn", [nn.LSTM, nn.GRU])
def test_recurrent_layers_count_as_work(rnn: type[nn.LSTM]) -> None:
    (site,) = mcdrop.wrap(rnn(4, 4, num_layers=2, dropout=0.5)).sites(torch.randn(5, 3, 4))
    assert site.flops_before == pytest.approx(0.5)


def test_large_inputs_are_split_by_rows_where_rows_are_independent() -> None:
    x = torch.randn(40_000, 4, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    prediction = mcdrop.wrap(model).predict_with_uncertainty(x, n_samples=32, seed=0)
    run = prediction.run
    assert run is not None
    # 2^19 elements hold 8 passes of 1024 rows of 64; most work comes before the dropout, so more
    # passes share it.
    assert (run.batch_size, run.sample_chunk, run.strategy) == (1024, 32, "vectorized")
    exact = model.eval()(x).detach()
    inside = ((prediction.mean - exact).abs() < 4 * prediction.mcse).double().mean().item()
    assert inside > 0.99


def test_large_inputs_whose_rows_depend_on_each_other_stay_whole() -> None:
    x = torch.randn(40_000, 1, 4, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Dropout(0.5), nn.GRU(4, 32))  # time first: rows follow each other
    mc = mcdrop.wrap(model)
    run = mc.predict_with_uncertainty(x, n_samples=2, seed=0, select=0).run
    assert run is not None
    assert run.batch_size is None


def test_a_second_prediction_remembers_what_the_first_found_out() -> None:
    calls = itertools.count()
    model = nn.Sequential(CountsCalls(calls), nn.Dropout(0.5), nn.Linear(4, 1))
    mc = mcdrop.wrap(model)
    first = mc.predict_with_uncertainty(X, seed=0)
    n_first = next(calls)
    second = mc.predict_with_uncertainty(X, seed=0)
    assert next(calls) - n_first - 1 == 1
    assert torch.equal(first.mean, second.mean)
    assert first.run is not None
    assert second.run is not None
    assert first.run.reason == second.run.reason


def test_what_is_remembered_does_not_hide_a_changed_model() -> None:
    drop = nn.Dropout(0.5)
    model = nn.Sequential(drop, nn.Linear(4, 1))
    mc = mcdrop.wrap(model)
    mc.predict_with_uncertainty(X)
    drop.p = 0.25
    run = mc.predict_with_uncertainty(X).run
    assert run is not None
    assert run.sites[0].p == 0.25
    drop.p = 0.0
    with pytest.raises(mcdrop.NoDropoutError):
        mc.predict_with_uncertainty(X)
    drop.p = 0.5
    model[1] = Branch()
    run = mc.predict_with_uncertainty(X).run
    assert run is not None
    assert run.strategy == "sequential"


def test_buffers_are_freed_without_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    original = Workspace.empty

    def empty(self: Workspace, *args: Any) -> torch.Tensor:
        out = original(self, *args)
        held.extend(weakref.ref(buffer) for buffer in self._buffers.values())
        return out

    monkeypatch.setattr(Workspace, "empty", empty)
    net = nn.Sequential(nn.Linear(4, 256), nn.Dropout(0.5), nn.Linear(256, 1))
    gc.collect()
    gc.disable()
    try:
        mcdrop.wrap(net).predict_with_uncertainty(X, n_samples=64, seed=0)
        assert held
        assert not any(buffer() is not None for buffer in held)
    finally:
        gc.enable()


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


def test_variance_over_strata_is_corrected_for_the_variance_of_their_mean() -> None:
    groups = PassGroups(64, stratified=True)
    balanced = Moments(groups)
    balanced.update(torch.tensor([1.0, -1.0] * 32).unsqueeze(1))
    # Every stratum has mean 0, so the mean of the passes is exact and costs no degree of freedom.
    assert balanced.variance.item() == pytest.approx(1.0, abs=1e-12)
    assert balanced.mean_error.item() == pytest.approx(0.0, abs=1e-12)
    offsets = torch.tensor([3.0, -1.0, 2.0, 0.0])
    apart = Moments(groups)
    apart.update(offsets.repeat_interleave(16).unsqueeze(1))
    # All spread lies between four strata: their sample variance, and that of a mean of four.
    assert apart.variance.item() == pytest.approx(offsets.var().item())
    assert apart.variance_of_mean.item() == pytest.approx(offsets.var().item() / 4)


def test_selections_that_differ_only_in_what_they_close_over_are_told_apart() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            h = self.drop(x)
            # A Python loop over values that differ by pass cannot be batched.
            return self.head(h), torch.stack([row * row.sum().item() for row in x.unbind()])

    mc = mcdrop.wrap(Two())
    shapes = []

    def output(place: int) -> Callable[[Any], torch.Tensor]:
        return lambda outputs: outputs[place]

    for place in (0, 1, 0):
        prediction = mc.predict_with_uncertainty(X, n_samples=4, select=output(place))
        assert prediction.run is not None
        shapes.append(prediction.mean.shape)
    assert shapes == [(8, 3), (8, 4), (8, 3)]
    assert len(plans(mc._memory)) == 2
