"""Costly operators are recalled where they are given the same numbers, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop._live.memory import address
from mcdrop._twin.observe import observe
from mcdrop._twin.recall import Chosen, Recall
from mcdrop._twin.watch import watch
from tests.kernels import Kernels

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(128, 128, generator=GENERATOR)
WEIGHT = torch.randn(128, 128, generator=GENERATOR)
PRODUCT: Any = torch.ops.aten.mm.default
CONVOLUTION: Any = torch.ops.aten.convolution.default


def runs(recall: Recall, func: Any, *args: Any, unwritten: tuple[Tensor, ...] = ()) -> int:
    """Run an operator, check its result, and tell whether it had to be computed."""
    with Kernels() as counted:
        found = recall.run(func, args, {}, frozenset(map(address, unwritten)))
    assert torch.equal(found, func(*args))
    return counted.n_costly


def test_equal_numbers_are_not_multiplied_again() -> None:
    recall = Recall()
    assert runs(recall, PRODUCT, X, WEIGHT) == 1
    assert runs(recall, PRODUCT, X.clone(), WEIGHT.clone()) == 0


@pytest.mark.parametrize(
    "other",
    [
        (X + (torch.arange(X.numel()).view_as(X) == 5), WEIGHT),
        (X, WEIGHT + 1),
        (X[:127], WEIGHT),
        (X.double(), WEIGHT.double()),
        (X.T, WEIGHT),
        (WEIGHT, X),
    ],
    ids=["one entry", "weight", "shape", "type", "strides", "order"],
)
def test_other_numbers_are(other: tuple[Tensor, Tensor]) -> None:
    recall = Recall()
    runs(recall, PRODUCT, X, WEIGHT)
    assert runs(recall, PRODUCT, *other) == 1


def test_other_strides_of_a_convolution_are_another_call() -> None:
    recall = Recall()
    x, weight = X.reshape(4, 4, 32, 32), WEIGHT[:4, :36].reshape(4, 4, 3, 3)

    def convolved(stride: int, padding: int) -> int:
        options = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
        return runs(recall, CONVOLUTION, x, weight, None, *options)

    assert [convolved(1, 1), convolved(2, 1), convolved(1, 0), convolved(2, 1)] == [1, 1, 1, 0]


def test_what_was_returned_may_be_written_to() -> None:
    recall = Recall()
    x = X.clone()
    for _ in range(3):
        found = recall.run(PRODUCT, (x, WEIGHT), {}, frozenset())
        assert torch.equal(found, X @ WEIGHT)
        # Neither is counted as a write by torch.
        found.data.zero_()
        found.numpy()[:] = 1
    x.data.add_(1)
    assert runs(recall, PRODUCT, x, WEIGHT) == 1


def test_weights_are_known_by_their_place_until_they_are_written_to() -> None:
    recall, weight = Recall(), WEIGHT.clone()
    assert runs(recall, PRODUCT, X, weight.T, unwritten=(weight,)) == 1
    assert runs(recall, PRODUCT, X, weight.T, unwritten=(weight,)) == 0
    assert runs(recall, PRODUCT, X, weight.clone().T, unwritten=(weight,)) == 1
    weight.add_(1)
    assert runs(recall, PRODUCT, X, weight.T, unwritten=(weight,)) == 1


def test_nan_and_small_products_are_computed_anew() -> None:
    recall, nan = Recall(), torch.full_like(X, torch.nan)
    with Kernels() as counted:
        for x, weight in ((nan, WEIGHT), (X[:4, :4], WEIGHT[:4, :4])) * 2:
            recall.run(PRODUCT, (x, weight), {}, frozenset())
    assert counted.n_costly == 4


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcdrop._twin.recall._MOST_BYTES", 3 * 4 * X.numel())
    recall = Recall()
    first, second = (X, WEIGHT), (WEIGHT, X)
    assert [runs(recall, PRODUCT, *each) for each in (first, second, first, second)] == [1, 1, 0, 1]


BATCH = X.reshape(4, 4, 32, 32)
KERNEL = WEIGHT[:4, :36].reshape(4, 4, 3, 3)
CONVOLVED = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
BY_ROW: dict[str, tuple[Any, Callable[[Tensor], tuple[Any, ...]]]] = {
    "mm": (PRODUCT, lambda x: (x, WEIGHT)),
    "addmm": (torch.ops.aten.addmm.default, lambda x: (WEIGHT[0], x, WEIGHT)),
    "convolution": (
        CONVOLUTION,
        lambda x: (x.reshape(-1, 4, 32, 32), KERNEL, None, *CONVOLVED),
    ),
}


@pytest.mark.parametrize("name", BY_ROW)
def test_results_of_the_first_and_last_row_are_found_among_those_of_all(name: str) -> None:
    func, given = BY_ROW[name]
    recall = Recall()
    unwritten = frozenset(map(address, (WEIGHT,)))
    x = X.clone()
    # Four rows, of as many entries along the first dimension as the operator takes.
    ends = torch.cat([x[:32], x[-32:]])
    recall.run(func, given(x), {}, unwritten)
    recall.chosen = Chosen(4, slice(0, None, 3))
    passes = torch.cat([ends, ends, ends])
    for rows, n_run in ((ends, 0), (passes, 0), (x[:64], 1), (passes + 1, 1), (x[:32], 1)):
        with Kernels() as counted:
            found = recall.run(func, given(rows), {}, unwritten)
        torch.testing.assert_close(found, func(*given(rows)), rtol=1e-4, atol=1e-4)
        assert counted.n_costly == n_run


def test_a_bias_of_every_row_is_not_taken_for_that_of_others() -> None:
    func: Any = torch.ops.aten.addmm.default
    recall = Recall()
    recall.run(func, (WEIGHT, X, WEIGHT), {}, frozenset())
    recall.chosen = Chosen(4, slice(0, None, 3))
    ends = torch.cat([X[:32], X[-32:]])
    assert runs(recall, func, WEIGHT[:64], ends, WEIGHT) == 1


def test_several_results_are_recalled_together() -> None:
    func: Any = torch.ops.aten.max_pool2d_with_indices.default
    recall = Recall()
    expected = func(BATCH, [2, 2], [2, 2])
    for x in (BATCH, BATCH.clone(), BATCH + 1):
        found = recall.run(func, (x, [2, 2], [2, 2]), {}, frozenset())
        assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0], expected[0] + 1)


def test_nothing_more_is_held_than_asked_for() -> None:
    recall = Recall()
    assert recall.is_empty
    recall.holds = False
    assert [runs(recall, PRODUCT, X, WEIGHT) for _ in range(2)] == [1, 1]
    recall.holds = True
    assert [runs(recall, PRODUCT, X, WEIGHT) for _ in range(2)] == [1, 0]
    assert not recall.is_empty


class Gated(nn.Module):
    """Layers with dropout that Python code switches."""

    def __init__(self, change: Callable[[Gated, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(128, 128) for _ in range(3)])
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
            if self.training:
                x = F.dropout(x, 0.5)
                x = self.change(self, x) if self.change else x
        return x


def test_runs_that_compute_the_same_recall_it() -> None:
    recall, model = Recall(), Gated().eval()
    with Kernels() as counted:
        plain = observe(model, lambda: ((X.clone(),), {}), recall=recall)
    assert counted.n_costly == 3
    with Kernels() as counted:
        seen = observe(model, lambda: ((X.clone(),), {}), {""}, recorded=plain, recall=recall)
    assert counted.n_costly == 0
    assert torch.equal(seen.output, plain.output)
    assert len(seen.draws) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda _, x: x + 0.01,
        lambda _, x: x * (torch.arange(len(x)) != 7)[:, None],
        lambda model, x: F.linear(x, model.layers[0].weight * 1.01),
    ],
    ids=["shift", "one row", "weight"],
)
def test_what_else_a_flag_switches_still_shows(change: Callable[[Gated, Tensor], Tensor]) -> None:
    model = Gated(change).eval()
    found = watch(model, lambda: ((X.clone(),), {}))
    assert not found.gates
    assert found.off[""] == "its output differs"
    assert [each.path for each in found.lost] == [""] * 3
    assert watch(Gated().eval(), lambda: ((X.clone(),), {})).gates == {"": "rate"}
