"""Compiled kernels: the same numbers as NumPy's and torch's, to the last bit, and no waiting."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import mcdrop
from mcdrop._masks import numba_kernels as module
from mcdrop._masks import numpy_kernels as kernels
from mcdrop._masks import source as masks
from mcdrop._masks import stratified
from mcdrop._masks.background import Background
from mcdrop._masks.source import MaskSource, Span
from mcdrop._masks.streams import Streams
from tests.oracles import TinyNet

CPU = torch.device("cpu")
RATES = (0.003, 0.1, 0.3, 0.5, 0.9, 0.995)

with_numba = pytest.mark.skipif(module.load() is None, reason="Numba is not installed")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the kernels for the smallest of work."""
    module.prepare(wait=True)
    monkeypatch.setattr(module, "_LEAST", 0)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Take Numba away."""

    def take() -> None:
        for user in (masks, stratified):
            monkeypatch.setattr(user, "compiled", lambda _: None)

    return take


@with_numba
@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("numel", [51, 70_002])
def test_patterns_and_masks_are_those_of_numpy(
    p: float, numel: int, without: Callable[[], None]
) -> None:
    bits = 16 if 2**-6 <= p <= 1 - 2**-6 else 32
    rate = (round(p * 2**bits), bits)
    found = []
    for _ in range(2):
        part = stratified.PatternPart(range(128, 256, 128), range(128, 256), 3, numel // 3)
        patterns = stratified.drop_patterns(Streams(3, CPU), rate, part, (0, 1))
        keep = torch.empty((9, patterns[0].numel()), dtype=torch.bool)
        stratified.kept_passes(patterns.flatten(1).numpy(), 5, keep.numpy())
        found.append((patterns, keep))
        without()
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@with_numba
@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_those_of_the_mask(
    p: float, same: bool, stratify: bool, dtype: torch.dtype
) -> None:
    n, shape = 37, (70, 9)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1 if same else n, *shape), generator=generator, dtype=dtype)
    source = MaskSource(5, CPU, stratified=stratify)
    scale = 1 / (1 - p)
    keep = source.keep(p, shape, 2, Span(1, 11, n)).clone()
    found = source.times(x, scale, p, (shape, 2, Span(1, 11, n), None), "key")
    assert found is not None
    assert torch.equal(found, torch.where(keep, x * scale, torch.zeros((), dtype=dtype)))
    by_numpy = kernels.scaled_product(x, keep, scale, kernels.Workspace(), "key")
    assert torch.equal(found, by_numpy)


@with_numba
def test_what_is_not_finite_stays_so_as_in_torch() -> None:
    x = torch.full((1, 5000), torch.inf)
    found = MaskSource(0, CPU).times(x, 2.0, 0.5, ((5000,), 0, Span(), None), "key")
    assert found is not None
    assert bool(((found == torch.inf) | found.isnan()).all())
    assert 0.4 < found.isnan().double().mean().item() < 0.6


@with_numba
def test_the_kernels_do_what_their_python_says() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6)).astype(np.float32)
    patterns = rng.integers(-(2**15), 2**15, size=(2, 6)).astype(np.int16)
    lanes = rng.integers(-(2**15), 2**15, size=(4, 6)).astype(np.int16)
    fast = module.load()
    assert fast is not None
    scale, out = np.float32(1.5), [np.empty_like(x) for _ in range(4)]
    fast.drop_by_pattern(x, patterns, 14, scale, out[0])
    module._drop_by_pattern(x, patterns, 14, scale, out[1])
    np.testing.assert_array_equal(out[0], out[1])
    # Passes 14 and 15 of the first stratum, then 0 and 1 of the second.
    expected = [(patterns[s] >> b) & 1 for s, b in ((0, 14), (0, 15), (1, 0), (1, 1))]
    np.testing.assert_array_equal(out[1] == 0, np.array(expected) == 1)
    fast.drop_by_lane(x, lanes, 99, scale, out[2])
    module._drop_by_lane(x, lanes, 99, scale, out[3])
    np.testing.assert_array_equal(out[2], out[3])
    np.testing.assert_array_equal(out[3] == 0, lanes < 99)


@with_numba
@pytest.mark.parametrize("kind", ["independent", "shared"])
@pytest.mark.parametrize("stratify", [True, False])
def test_a_prediction_is_the_same_without_numba(
    kind: mcdrop._engine.record.Masks, stratify: bool, without: Callable[[], None]
) -> None:
    net = TinyNet(30, 60, 2, 0.3, seed=1)
    x = torch.randn(80, 30, generator=torch.Generator().manual_seed(0))
    mc = mcdrop.wrap(net, masks=kind, stratified=stratify)
    compiled = mc.predict_with_uncertainty(x, n_samples=50, seed=0, task="regression")
    without()
    plain = mc.predict_with_uncertainty(x, n_samples=50, seed=0, task="regression")
    assert torch.equal(compiled.mean, plain.mean)
    assert torch.equal(compiled.epistemic_variance, plain.epistemic_variance)


def test_jit_that_is_switched_off_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert module.load.__wrapped__() is None


def test_without_numba_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert module.load.__wrapped__() is None


def test_kernels_are_compiled_where_nothing_can_be_kept_on_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numba = pytest.importorskip("numba")
    original = numba.njit

    def njit(signatures: list[str], **options: Any) -> Any:
        if options.get("cache"):

            def refuse(_: Any) -> None:
                raise RuntimeError("cannot cache function: no locator available")

            return refuse
        return original(signatures, **options)

    monkeypatch.setattr(numba, "njit", njit)
    kernels = module.load.__wrapped__()
    assert kernels is not None
    x, out = np.ones((1, 4), dtype=np.float32), np.empty((1, 4), dtype=np.float32)
    patterns = np.array([[1, 0, 3, 2]], dtype=np.int16)
    kernels.drop_by_pattern(x, patterns, 0, np.float32(2), out)
    np.testing.assert_array_equal(out, [[0, 2, 0, 2]])


@with_numba
def test_small_work_is_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST", 10)
    assert module.compiled(9) is None
    assert module.compiled(10) is module.load()


@with_numba
def test_kernels_are_compiled_in_the_background_for_wrappers_that_draw_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[bool] = []
    monkeypatch.setattr("mcdrop._engine.schedule.prepare", lambda: started.append(True))
    monkeypatch.setattr("mcdrop._engine.schedule.UNITS_WORTH_COMPILING", 8 * 60 * 4)
    net = TinyNet(3, 60, 2, 0.3, seed=1)
    mc = mcdrop.wrap(net)
    for n_started in (0, 1):
        # Two passes of 8 rows and 60 units each time.
        mc.predict_with_uncertainty(torch.zeros(8, 3), n_samples=2, task="regression")
        assert len(started) == n_started
    mcdrop.wrap(net).predict_with_uncertainty(torch.zeros(8, 3), n_samples=2, task="regression")
    assert len(started) == 1


@with_numba
def test_predictions_go_on_while_kernels_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    kernels = module.load()

    def slow() -> module.Compiled | None:
        release.wait()
        return kernels

    monkeypatch.setattr(module, "_loader", Background(slow))
    module.prepare()
    module.prepare()
    assert module.compiled(100) is None
    net = TinyNet(30, 60, 2, 0.3, seed=1)
    mc = mcdrop.wrap(net)
    before = mc.predict_with_uncertainty(torch.ones(8, 30), n_samples=50, seed=0, task="regression")
    release.set()
    module.prepare(wait=True)
    assert module.compiled(100) is kernels
    after = mc.predict_with_uncertainty(torch.ones(8, 30), n_samples=50, seed=0, task="regression")
    assert torch.equal(before.mean, after.mean)
