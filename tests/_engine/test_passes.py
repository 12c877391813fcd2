"""The two ways to run passes: the same numbers, nothing computed twice, nothing kept."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any, cast

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._engine.batch import Batch
from mcdrop._engine.flops import FlopCounter
from mcdrop._engine.groups import PassGroups
from mcdrop._engine.moments import Moments
from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.settings import Settings
from mcdrop._masks.numpy_kernels import Workspace
from mcdrop._masks.source import Span
from mcdrop.errors import UnsupportedError
from tests._engine.models import CountsCalls
from tests.kernels import Kernels
from tests.passes import draw

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
BATCH = Batch((X,), {}, 8)
NET = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Dropout(0.3), nn.Linear(30, 2)).eval()


@pytest.fixture(autouse=True)
def _without_gradients() -> Any:
    with torch.no_grad():
        yield


def passes_of(model: nn.Module, **options: Any) -> Passes:
    return Passes(Settings("sample", model, {}, **options), 3, torch.device("cpu"))


@pytest.mark.parametrize("span", [Span(), Span(2, 0, 20), Span(0, 13, 7)])
@pytest.mark.parametrize("defers", [True, False])
def test_both_ways_give_the_same_passes_of_a_span(span: Span, defers: bool) -> None:
    passes = passes_of(NET)
    passes.opened(Plan(), BATCH, 2, FlopCounter())
    together = passes.vectorized(Plan(defers=defers), BATCH, span)
    one_by_one = passes.sequential(Plan(), BATCH, span)
    assert together.shape == (span.count, 8, 2)
    torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        passes.one(Plan(), BATCH, Span(span.batch, span.first)), one_by_one[0]
    )


def test_with_every_unit_kept_passes_are_the_model() -> None:
    passes = passes_of(NET)
    expected = NET(X)
    assert torch.equal(passes.plain(BATCH), expected)
    torch.testing.assert_close(passes.one(Plan(), BATCH, opened=True), expected)
    opened = passes.opened(Plan(), BATCH, 3, FlopCounter())
    torch.testing.assert_close(opened, expected.expand(3, 8, 2))


def test_an_output_that_lies_in_a_buffer_is_copied() -> None:
    ends_in_dropout = nn.Sequential(nn.Linear(4, 30), nn.Dropout(0.5))
    passes = passes_of(ends_in_dropout)
    found = passes.sequential(Plan(), BATCH, Span(0, 0, 4))
    before = found.clone()
    passes.sequential(Plan(), BATCH, Span(0, 4, 4))
    assert torch.equal(found, before)
    assert len(found.flatten(1).unique(dim=0)) == 4


def test_what_every_site_was_given_can_be_observed() -> None:
    seen = passes_of(NET).observed(Plan(), BATCH, True)
    assert seen.dropped is not None
    torch.testing.assert_close(seen.dropped, [torch.relu(NET[0](X))])
    assert [site.name for site in seen.sites] == ["2"]


def test_the_last_site_that_fires_is_integrated_or_refused() -> None:
    def found(model: nn.Module) -> int:
        passes = passes_of(model)
        passes.one(Plan(), BATCH)
        return passes.site_to_integrate(Plan(sites=tuple(passes.seen.sites)), BATCH)

    two = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 5), nn.Dropout(0.3), nn.Linear(5, 1))
    assert found(two) == 1
    two.append(nn.Dropout(0.0))
    assert found(two) == 1
    two.append(nn.Tanh())
    with pytest.raises(UnsupportedError, match=r"`exact_last` to be True only .* but got 2: the"):
        found(two)


def test_the_part_before_the_first_dropout_runs_once_per_chunk() -> None:
    calls = itertools.count()
    model = nn.Sequential(CountsCalls(calls), nn.Dropout(0.5), nn.Linear(4, 1))
    prediction = mcdrop.wrap(model).predict_with_uncertainty(
        X, n_samples=100, sample_chunk=50, control_variate=False
    )
    assert prediction.run is not None
    assert prediction.run.strategy == "vectorized"
    # The plain model, with a row more to tell rows apart, the check with open masks, two chunks.
    assert next(calls) == 4


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
        mcdrop.wrap(net).predict_with_uncertainty(X, n_samples=64, seed=0, control_variate=False)
        assert held
        assert not any(buffer() is not None for buffer in held)
    finally:
        gc.enable()


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


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("exact_last", [False, True])
def test_a_first_prediction_computes_what_comes_before_dropout_once(
    masks: Any, exact_last: bool
) -> None:
    body = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.Conv2d(16, 16, 3))
    net = nn.Sequential(*body, nn.Flatten(), nn.Dropout(0.5), nn.Linear(30976, 2)).eval()
    x = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    mc = mcdrop.wrap(net, masks=masks)
    found, counts = [], []
    for _ in range(2):
        with Kernels() as convolutions:
            found.append(
                mc.predict_with_uncertainty(
                    x, n_samples=8, seed=0, task="regression", exact_last=exact_last
                )
            )
        counts.append(convolutions.calls["convolution"])
    assert counts == [2, 2]
    assert torch.equal(found[0].mean, found[1].mean)
    assert torch.equal(found[0].std, found[1].std)


class WritesUnseen(nn.Module):
    """Writes to what a layer returned where torch does not count it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 16, 3), nn.Linear(33856, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.convolution(x)
        y.data.mul_(2)
        y.numpy()[:] += 1
        dropped = nn.functional.dropout(y.flatten(1), 0.5, True)
        return cast(torch.Tensor, self.head(dropped))


def test_unseen_writes_do_not_reach_what_is_recalled() -> None:
    net, x = WritesUnseen().eval(), torch.randn(4, 3, 48, 48)
    mc = mcdrop.wrap(net)
    first, later = (mc.sample(x, n_samples=6, seed=0) for _ in range(2))
    assert torch.equal(first, later)
    expected = net.head((2 * net.convolution(x) + 1).flatten(1))
    # Every unit is dropped in half of the passes of a stratum, so that a linear mean is exact.
    samples, run = draw(net, x, 32)
    assert run.strategy == "vectorized"
    mean = samples.mean(dim=0)
    torch.testing.assert_close(mean, expected, atol=1e-3, rtol=1e-3)


def test_weights_that_change_between_predictions_are_not_recalled() -> None:
    first, last = nn.Linear(300, 300), nn.Linear(300, 2)
    net, x = nn.Sequential(first, nn.Dropout(0.5), last).eval(), torch.randn(4, 300)
    before = mcdrop.wrap(net).sample(x, n_samples=4, seed=0)
    for parameter in first.parameters():
        parameter.mul_(2)
    after = mcdrop.wrap(net).sample(x, n_samples=4, seed=0)
    torch.testing.assert_close(after - last.bias, 2 * (before - last.bias))


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_what_is_recalled_is_let_go(strategy: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(33856, 2))
    x = torch.randn(4, 3, 48, 48)
    passes = passes_of(net.eval())
    batch = Batch((x,), {}, 4)
    with torch.no_grad():
        expected = passes.plain(batch)
        assert torch.equal(passes.plain_kept(batch), expected)
        assert passes.recall is not None
        getattr(passes, strategy)(Plan(), batch, Span(count=2))
    assert passes.recall is None
