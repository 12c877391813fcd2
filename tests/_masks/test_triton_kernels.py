"""Kernels of a device, under Triton's interpreter on the CPU: the bits of the plain operations."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mcdrop._masks import source, stratified
from mcdrop._masks import triton_kernels as module
from mcdrop._masks.device_kernels import scaled
from mcdrop._masks.rows import RowDim
from mcdrop._masks.source import MaskSource, Span
from mcdrop._masks.streams import Streams

CPU = torch.device("cpu")
RATES = (0.003, 0.1, 0.25, 0.5, 0.9)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The kernels of a copy of the module that Triton interprets."""
    pytest.importorskip("triton", "3.2", reason="older interpreters want annotations as objects")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    spec = importlib.util.spec_from_file_location("interpreted", str(Path(module.__file__)))
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "interpreted", copy)
    spec.loader.exec_module(copy)
    return copy.made()


@pytest.fixture
def like_a_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Masks as a device draws them, with some kernels or none."""
    monkeypatch.setattr(Streams, "on_cpu", False)

    def use(kernels: Any) -> None:
        for user in (source, stratified):
            monkeypatch.setattr(user, "ready", lambda _: kernels)

    use(None)
    yield use
    # What has been looked up for a pretended device.
    stratified._signed.cache_clear()


def product(x: Tensor, p: float, span: Span, *, n_samples: int | None) -> Tensor:
    masks = MaskSource(3, CPU, stratified=True, n_samples=n_samples)
    shape, row = tuple(x.shape[1:]), RowDim(0, 1)
    found = masks.times(x, 1 / (1 - p), p, (shape, 2, span, row), "key")
    if found is not None:
        return found
    return scaled(x, masks.keep(p, shape, 2, span, row), 1 / (1 - p))


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize(
    ("first", "count", "same"), [(0, 20, True), (0, 64, False), (60, 70, False), (5, 7, True)]
)
def test_products_are_those_of_the_plain_operations(
    p: float,
    first: int,
    count: int,
    same: bool,
    interpreted: Any,
    like_a_device: Callable[[Any], None],
) -> None:
    n_rows, units = 5, 300
    x = torch.randn(1 if same else count, n_rows, units)
    for rows in (range(n_rows), range(3, 3 + n_rows)):
        span = Span(0, first, count, rows)
        expected = product(x, p, span, n_samples=None)
        like_a_device(interpreted)
        found = product(x, p, span, n_samples=None)
        like_a_device(None)
        # Zeros have the same sign, too.
        assert torch.equal(found.view(torch.int32), expected.view(torch.int32))
    assert abs(float((expected == 0).double().mean()) - p) < 0.02


def test_parts_of_a_block_give_the_same_products(
    interpreted: Any, like_a_device: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, span = torch.randn(150, 3, 40), Span(0, 40, 150, range(3))
    expected = product(x, 0.3, span, n_samples=None)
    like_a_device(interpreted)
    monkeypatch.setattr("mcdrop._masks.source._LARGE_DEVICE_SITE", 0)
    assert torch.equal(product(x, 0.3, span, n_samples=None), expected)


def test_few_passes_on_a_grid_take_the_kernel_for_products(
    interpreted: Any, like_a_device: Callable[[Any], None]
) -> None:
    x, span = torch.randn(20, 3, 40), Span(0, 0, 20, range(3))
    expected = product(x, 0.3, span, n_samples=20)
    like_a_device(interpreted)
    assert torch.equal(product(x, 0.3, span, n_samples=20), expected)


@pytest.mark.parametrize("dtype", module.FLOATS_THERE)
def test_types_are_rounded_once(dtype: torch.dtype, interpreted: Any) -> None:
    x = torch.randn(18, 1500).to(dtype)
    patterns = torch.randint(-(2**15), 2**15, (2, 1500)).to(torch.int16)
    out = torch.empty_like(x)
    interpreted.drop_by_pattern(x, patterns, 3, 1 / 0.9, out)
    numbers = torch.arange(3, 21)
    keep = (patterns[numbers // 16].int() >> (numbers % 16).view(-1, 1)) & 1 == 0
    assert torch.equal(out, scaled(x, keep, 1 / 0.9))


def test_other_types_and_masks_take_the_plain_operations(
    like_a_device: Callable[[Any], None],
) -> None:
    like_a_device(object())
    for stratified_, dtype in ((True, torch.float64), (False, torch.float32)):
        masks = MaskSource(3, CPU, stratified=stratified_)
        where = ((4,), 0, Span(0, 0, 8), None)
        assert masks.times(torch.ones(8, 4, dtype=dtype), 2.0, 0.5, where, "key") is None


def test_every_kernel_runs_for_each_type_before_it_is_used(interpreted: Any) -> None:
    module._use(interpreted, CPU)


def test_without_triton_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "triton", None)
    assert module.load() is None


def test_kernels_are_for_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._loader, "found", object())
    assert module.ready(CPU) is None
    assert module.ready(torch.device("cuda")) is module._loader.found


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mcdrop._masks import triton_kernels as module

target, kernels = GPUTarget("cuda", 80, 32), module.made()
for bits in (16, 32):
    signatures = {
        kernels.drop: ["*fp32", "*i16", "*fp32", "fp32", *["i32"] * 4, "constexpr"],
        kernels.choose: [
            "*i16", "*i16", f"*i{bits}", "*i16", *["i32"] * 8, "constexpr", "constexpr"
        ],
    }
    for kernel, types in signatures.items():
        constants = {"BLOCK": 1024} | ({"BITS": bits} if kernel is kernels.choose else {})
        given = dict(zip(kernel.arg_names, types, strict=True))
        made = triton.compile(
            ASTSource(kernel, given, constants), target=target, options=module._EXACT
        )
        assert ".visible .entry" in made.asm["ptx"]
"""


def test_kernels_compile_for_a_gpu() -> None:
    pytest.importorskip("triton")
    # The interpreter changes Triton's language for the whole process.
    subprocess.run([sys.executable, "-c", COMPILED], check=True, capture_output=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("p", RATES)
def test_compiled_products_are_those_of_the_plain_operations(
    p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.prepare(wait=True)
    if module.ready(torch.device("cuda")) is None:
        pytest.skip("no kernels could be compiled")
    x, span = torch.randn(100, 64, 513).cuda(), Span(0, 0, 100, range(64))
    where = ((64, 513), 2, span, RowDim(0, 1))
    masks = MaskSource(3, torch.device("cuda"), stratified=True)
    found = masks.times(x, 1 / (1 - p), p, where, "key")
    assert found is not None
    for user in (source, stratified):
        monkeypatch.setattr(user, "ready", lambda _: None)
    masks = MaskSource(3, torch.device("cuda"), stratified=True)
    assert torch.equal(found, scaled(x, masks.keep(p, *where), 1 / (1 - p)))
