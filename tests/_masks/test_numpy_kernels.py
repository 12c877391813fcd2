"""Arithmetic with masks on the CPU: the numbers of torch.where, in memory that is used again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from mcdrop._masks import numpy_kernels
from mcdrop._masks.numpy_kernels import Workspace, scaled_product, tiles


def test_the_same_key_is_the_same_memory() -> None:
    workspace = Workspace()
    first = workspace.empty("a", (3, 4), torch.float32)
    again = workspace.empty("a", (2, 5), torch.float32)
    full = workspace.empty("a", (4, 3), torch.float32)
    other = workspace.empty("b", (3, 4), torch.float32)
    assert again.data_ptr() == full.data_ptr() == first.data_ptr() != other.data_ptr()
    assert again.shape == (2, 5)


def test_a_buffer_grows_and_follows_the_type() -> None:
    workspace = Workspace()
    small = workspace.empty("a", (2,), torch.float32)
    large = workspace.empty("a", (200,), torch.float32)
    assert large.numel() == 200
    assert large.data_ptr() != small.data_ptr()
    assert workspace.empty("a", (200,), torch.float64).dtype == torch.float64


def test_a_workspace_knows_its_buffers() -> None:
    workspace = Workspace()
    buffer = workspace.empty("a", (3, 4), torch.float32)
    assert workspace.holds(buffer)
    assert workspace.holds(buffer[1:].t())
    assert not workspace.holds(buffer.clone())
    assert not Workspace().holds(buffer)


def test_what_goes_beyond_the_limit_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_kernels, "_WORKSPACE_BYTES", 100)
    workspace = Workspace()
    # 80 bytes fit, 40 more do not, 16 do.
    assert workspace.holds(workspace.empty("a", (20,), torch.float32))
    assert not workspace.holds(workspace.empty("b", (10,), torch.float32))
    assert workspace.holds(workspace.empty("c", (4,), torch.float32))


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep other pages")
def test_memory_of_freed_tensors_is_used_again() -> None:
    # In a process of its own, since any large tensor freed before has the same effect.
    code = """
import resource, sys, torch
from mcdrop._masks.numpy_kernels import Workspace
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.zeros(2 * 2**20) for _ in range(3)]
    tensors.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = [faults() for _ in range(3)]
Workspace()
settled = [faults() for _ in range(20)]
print(first[-1], settled[-1])
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    # Three tensors of 8 MiB are 6,144 pages.
    assert int(found[0]) > 2000
    assert int(found[1]) < 200


@pytest.mark.parametrize("length", [0, 1, 7, 100])
@pytest.mark.parametrize("per_item", [0, 1, 2**14, 2**20])
def test_tiles_cover_all_items_once_and_in_order(length: int, per_item: int) -> None:
    found = list(tiles(length, per_item))
    assert [item for part in found for item in range(length)[part]] == list(range(length))
    assert all((part.stop - part.start) * per_item <= max(2**16, per_item) for part in found)


SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "equal": ((6, 4, 5), (6, 4, 5)),
    "values the same for all passes": ((1, 4, 5), (6, 4, 5)),
    "mask shared by rows": ((6, 4, 5), (6, 1, 5)),
    "few flags for many values": ((6, 4, 50), (6, 4, 1)),
    "both broadcast": ((1, 4, 5), (6, 1, 5)),
    "mask of fewer dimensions": ((6, 4, 5), (4, 5)),
    "larger than a tile": ((3, 300, 500), (3, 300, 500)),
    "no entries": ((0, 5), (0, 5)),
    "no dimensions": ((), ()),
}


@pytest.mark.parametrize(("shape", "mask"), SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_scaled_products_are_those_of_where(
    shape: tuple[int, ...], mask: tuple[int, ...], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=dtype)
    keep = torch.rand(mask, generator=generator) > 0.4
    found = scaled_product(x, keep, 1.5, Workspace(), "a")
    expected = torch.where(keep, x * 1.5, 0)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_scaled_products_leave_values_and_graph_alone() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    transposed = torch.arange(6.0).view(3, 2).t()
    keep = torch.tensor([True, False, True]).expand(2, 3)
    assert not scaled_product(x, keep, 2.0, Workspace(), "a").requires_grad
    found = scaled_product(transposed, keep, 2.0, Workspace(), "a")
    assert found.tolist() == [[0.0, 0.0, 8.0], [2.0, 0.0, 10.0]]
    assert torch.equal(x, torch.ones(2, 3))
    assert torch.equal(transposed, torch.arange(6.0).view(3, 2).t())
