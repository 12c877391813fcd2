"""Max pooling of all passes: the numbers of torch's kernel, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop._live.functorch import DispatchMode, aten
from tests._live.rules.calls import AfterDropout
from tests.passes import draw

# Each of the forms in which a window can be given, and whether views take its maximum.
WINDOWS: dict[str, tuple[Callable[[Tensor], Any], bool]] = {
    "module": (nn.MaxPool2d(2), True),
    "module of two sizes": (nn.MaxPool2d((2, 3), stride=(1, 2)), True),
    "list of one": (lambda x: F.max_pool2d(x, [2]), True),
    "empty stride": (lambda x: torch.max_pool2d(x, 2, []), True),
    "overlapping": (lambda x: F.max_pool2d(x, 3, 2), True),
    "with gaps": (lambda x: F.max_pool2d(x, 2, stride=3), True),
    "whole input": (lambda x: F.max_pool2d(x[..., :2, :2], 2), True),
    "low level": (lambda x: torch.max_pool2d(x, (2, 2), (2, 2), (0, 0), (1, 1), False), True),
    "exported": (lambda x: aten("max_pool2d")[0](x, [2, 2], [2, 2]), True),
    "by name": (lambda x: torch.max_pool2d(input=x, kernel_size=2), False),
    "long": (lambda x: F.max_pool2d(x, 4), False),
    "padded": (lambda x: F.max_pool2d(x, 2, padding=1), False),
    "dilated": (lambda x: F.max_pool2d(x, 2, dilation=2), False),
    "cut off": (lambda x: F.max_pool2d(x, 2, ceil_mode=True), False),
    "with indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], False),
}


class Pools(DispatchMode):
    """Notes the most elements that torch's kernel has pooled at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__.startswith("max_pool2d"):
            self.most = max(self.most, args[0].numel())
        return func(*args, **(kwargs or {}))


def passes(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Return passes at once, one at a time, and whether torch's kernel pooled the former."""
    with Pools() as pools:
        found, run = draw(model, x, 8, "vectorized")
    assert run.strategy == "vectorized", run.reason
    return found, draw(model, x, 8, "sequential")[0], pools.most > 2 * x.numel()


@pytest.mark.parametrize(("pool", "by_views"), WINDOWS.values(), ids=WINDOWS.keys())
def test_pooling_is_that_of_one_pass_at_a_time(
    pool: Callable[[Tensor], Any], by_views: bool
) -> None:
    x = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    found, expected, by_kernel = passes(AfterDropout(pool), x)
    assert torch.equal(found, expected)
    assert by_kernel != by_views


def test_a_single_image_needs_no_batch_dimension() -> None:
    x = torch.randn(3, 9, 7, generator=torch.Generator().manual_seed(0))
    found, expected, by_kernel = passes(AfterDropout(nn.MaxPool2d(2)), x)
    assert torch.equal(found, expected)
    assert not by_kernel


@pytest.mark.parametrize("size", [2, 3])
def test_channels_may_lie_innermost(size: int) -> None:
    def pool(x: Tensor) -> Tensor:
        innermost = x.movedim(1, -1).contiguous().movedim(-1, 1)
        return F.max_pool2d(innermost, size)

    x = torch.randn(2, 5, 9, 7, generator=torch.Generator().manual_seed(0))
    found, expected, by_kernel = passes(AfterDropout(pool), x)
    assert torch.equal(found, expected)
    # For windows of three torch's kernel is fast there.
    assert by_kernel == (size == 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_not_a_number_or_infinite_comes_through(dtype: torch.dtype) -> None:
    added = torch.zeros(2, 3, 6, 6, dtype=dtype)
    added[0, 0, 1, 2], added[0, 1, 3, 3], added[1, 2, :2, :2] = torch.nan, torch.inf, -torch.inf

    def pool(x: Tensor) -> Tensor:
        # Passes have to be finite.
        return F.max_pool2d(x + added, 2).nan_to_num(nan=100.0, posinf=200.0, neginf=300.0)

    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    found, expected, _ = passes(AfterDropout(pool), x)
    assert torch.equal(found, expected)
    for place, value in (((0, 0, 0, 1), 100.0), ((0, 1, 1, 1), 200.0), ((1, 2, 0, 0), 300.0)):
        assert bool((found[(..., *place)] == value).all())


def test_a_model_that_maps_over_rows_itself_is_pooled_too() -> None:
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    found, expected, _ = passes(AfterDropout(torch.func.vmap(nn.MaxPool2d(2))), x)
    assert torch.equal(found, expected)
