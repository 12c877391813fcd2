"""Functions that take all passes as further rows: one kernel, the numbers of one pass at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop._live.functorch import DispatchMode
from mcdrop._live.rules import folded
from tests._live.rules.calls import AfterDropout
from tests.kernels import Kernels
from tests.passes import draw

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT, BIAS = torch.randn(5, 6, generator=GENERATOR), torch.randn(5, generator=GENERATOR)


def after_a_sum(function: Callable[[Tensor], Tensor]) -> AfterDropout:
    """Make a model whose dropout has been read, so that nothing is deferred."""
    return AfterDropout(lambda x: function(x + 1))


LINEAR: dict[str, Callable[[Tensor], Tensor]] = {
    "by position": lambda x: F.linear(x, WEIGHT, BIAS),
    "by name": lambda x: F.linear(input=x, weight=WEIGHT, bias=BIAS),
    "without bias": lambda x: F.linear(x, WEIGHT),
    "weight that differs by pass": lambda x: F.linear(x, WEIGHT * x.mean(), BIAS),
    "bias that differs by pass": lambda x: F.linear(x, WEIGHT, BIAS * x.mean()),
    "input that does not differ": lambda x: F.linear(torch.ones(4, 6), WEIGHT * x.mean()),
    "one dimension": lambda x: F.linear(x.flatten()[:6], WEIGHT, BIAS).expand(4, 5),
}


@pytest.mark.parametrize("least", [0, 2**30])
@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6)])
@pytest.mark.parametrize("function", LINEAR.values(), ids=LINEAR.keys())
def test_linear_layers_are_those_of_one_pass_at_a_time(
    function: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    least: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folded, "_LEAST_LINEAR", least)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = after_a_sum(function)
    found, run = draw(model, x, 16, "vectorized")
    assert run.strategy == "vectorized"
    torch.testing.assert_close(found, draw(model, x, 16, "sequential")[0], rtol=1e-4, atol=1e-5)


MEANS, SPREADS = torch.randn(6, generator=GENERATOR), torch.rand(6, generator=GENERATOR) + 0.1
SCALES, SHIFTS = torch.randn(6, generator=GENERATOR), torch.randn(6, generator=GENERATOR)
NORMALIZED: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: F.batch_norm(x, MEANS, SPREADS),
    "scaled": lambda x: F.batch_norm(x, MEANS, SPREADS, SCALES, SHIFTS, False, 0.1, 1e-3),
    "by name": lambda x: F.batch_norm(input=x, running_mean=MEANS, running_var=SPREADS, eps=0.1),
    "scale that differs by pass": lambda x: F.batch_norm(
        x, MEANS, SPREADS, weight=SCALES * x.mean(), bias=SHIFTS
    ),
    "statistics of the batch": lambda x: F.batch_norm(x, None, None, training=True),
    "input that does not differ": lambda x: (
        x + F.batch_norm(torch.ones_like(x), MEANS, SPREADS, SCALES, SHIFTS)
    ),
    "a layer": lambda x: nn.BatchNorm1d(6).eval()(x) if x.ndim < 4 else nn.BatchNorm2d(6).eval()(x),
}


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3), (4, 6, 3, 2)])
@pytest.mark.parametrize("function", NORMALIZED.values(), ids=NORMALIZED.keys())
def test_batch_normalization_is_that_of_one_pass_at_a_time(
    function: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = after_a_sum(function)
    found, run = draw(model, x, 16, "vectorized")
    assert run.strategy == "vectorized"
    torch.testing.assert_close(found, draw(model, x, 16, "sequential")[0], rtol=1e-4, atol=1e-5)


def test_batch_normalization_takes_all_passes_as_further_rows() -> None:
    given = []

    class Noted(DispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if "batch_norm" in func.overloadpacket.__name__:
                given.append(tuple(args[0].shape))
            return func(*args, **(kwargs or {}))

    model = after_a_sum(NORMALIZED["scaled"])
    with Noted():  # type: ignore[no-untyped-call]
        draw(model, torch.ones(4, 6, 3), 16, "vectorized")
    # vmap takes the units of all passes for units of one, which have to be copied together.
    assert given[-1] == (64, 6, 3)
    assert all(shape[1:] == (6, 3) for shape in given)


def test_a_large_linear_layer_is_one_kernel_for_all_passes() -> None:
    x = torch.ones(2048, 6)
    model = after_a_sum(LINEAR["by position"])
    with Kernels() as kernels:
        draw(model, x, 16, "vectorized")
    # The plain model with three rows, and the chunk; no bias is added alone. The look with every
    # unit kept has too few rows for the rule.
    assert kernels.calls["addmm"] == 2
    assert (kernels.calls["mm"], kernels.calls["bmm"]) == (1, 0)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("shape", [(3, 5, 8), (5, 8)])
def test_adaptive_pooling_is_that_of_one_pass_at_a_time(shape: tuple[int, ...], size: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    model = AfterDropout(lambda x: torch.adaptive_avg_pool1d(x, size))
    found, _ = draw(model, x, 16, "vectorized")
    assert found.shape == (16, *shape[:-1], size)
    torch.testing.assert_close(found, draw(model, x, 16, "sequential")[0])


def test_pooling_of_what_does_not_differ_by_pass_is_done_once() -> None:
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(3))
    model = AfterDropout(lambda dropped: dropped[..., :2] + torch.adaptive_avg_pool1d(x, 2))
    found, _ = draw(model, x, 16, "vectorized")
    torch.testing.assert_close(found, draw(model, x, 16, "sequential")[0])


FOLDED: dict[str, Callable[[Tensor], Tensor]] = {
    "max pool": lambda x: F.max_pool1d(x, 2),
    "max pool, low level": lambda x: torch.max_pool1d(x, 3, 1, 1),
    "max pool by name": lambda x: torch.max_pool1d(input=x, kernel_size=2),
    "max pool of a single signal": lambda x: F.max_pool1d(x[0], 2),
    "mapped over rows": torch.func.vmap(lambda row: F.max_pool1d(row[None], 2)[0]),
    "mapped over rows, normalized": torch.func.vmap(
        lambda row: F.batch_norm(row.t(), MEANS[:5], SPREADS[:5])
    ),
    "mapped over rows, linear": torch.func.vmap(lambda row: F.linear(row.t(), WEIGHT[:, :5])),
}


@pytest.mark.parametrize("function", FOLDED.values(), ids=FOLDED.keys())
def test_what_is_folded_is_that_of_one_pass_at_a_time(
    function: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folded, "_LEAST_LINEAR", 0)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(2))
    found, run = draw(after_a_sum(function), x, 16)
    assert run.strategy == "vectorized", run.reason
    expected = draw(after_a_sum(function), x, 16, "sequential")[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_small_layers_under_autocast_are_batched_in_its_type() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2)).eval()
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, run = draw(net, x, 20)
        alone, _ = draw(net, x, 20, "sequential")
    assert (run.strategy, run.dtype) == ("vectorized", "bfloat16"), run.reason
    torch.testing.assert_close(found, alone, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("normalize", [F.group_norm, torch.group_norm, nn.GroupNorm(2, 4)])
@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (2, 4, 1, 1), (1, 4, 3), (2, 4)])
def test_group_norm_takes_inputs_of_every_layout(
    normalize: Callable[..., Tensor], shape: tuple[int, ...]
) -> None:
    def forward(x: Tensor) -> Tensor:
        # Channels last in memory, as convolutions under vmap return it.
        moved = x.movedim(1, -1).contiguous().movedim(-1, 1)
        return normalize(moved) if isinstance(normalize, nn.Module) else normalize(moved, 2)

    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    found, run = draw(AfterDropout(forward), x, 16)
    assert run.strategy == "vectorized", run.reason
    torch.testing.assert_close(found, draw(AfterDropout(forward), x, 16, "sequential")[0])
