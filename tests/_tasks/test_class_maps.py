"""Large outputs over classes: tiles of any shape and type, chunks of any size, rows that settle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.groups import PassGroups
from mcdrop._tasks.accumulate import ClassificationAccumulator
from mcdrop._tasks.class_maps import ClassMaps
from mcdrop.errors import NonFiniteError, OutputError, ShapeError
from mcdrop.prediction.classification import ClassificationPrediction

LARGE, TILE = "mcdrop._tasks.tiles._TILE", "mcdrop._tasks.class_maps._TILE"
# Pixels, tokens, rows alone, and one image; then scores of class 1 of two.
SHAPES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "pixels": ((2, 3, 6, 5), {}),
    "tokens": ((5, 4, 7), {}),
    "rows": ((40, 5), {}),
    "volume": ((1, 2, 3, 4, 5), {}),
    "labels": ((7, 9), {"multilabel": True}),
    "maps of labels": ((2, 3, 4, 5), {"multilabel": True}),
    "binary": ((60,), {"binary": True}),
    "binary column": ((60, 1), {"binary": True}),
}


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the smallest of outputs in tiles of several places."""
    monkeypatch.setattr(LARGE, 1)
    monkeypatch.setattr(TILE, 36)
    monkeypatch.setattr("mcdrop._tasks.class_maps._FEWEST_PLACES", 1)


def accumulated(
    passes: Tensor, groups: PassGroups, chunk: int, **options: Any
) -> ClassificationAccumulator:
    given = {"output_type": "logits", **options}
    keep = given.pop("keep_samples", False)
    accumulator = ClassificationAccumulator("f", 10, keep, groups, **given)
    for some in passes.split(chunk):
        accumulator.update(some)
    return accumulator


def passes_of(n: int, shape: tuple[int, ...]) -> Tensor:
    return 2 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(n))


def assert_same(
    found: ClassificationPrediction, whole: ClassificationPrediction, rtol: float = 1e-4
) -> None:
    assert found._tensors().keys() == whole._tensors().keys()
    for name, value in found._tensors().items():
        expected = getattr(whole, name)
        assert value.dtype == expected.dtype
        torch.testing.assert_close(value, expected, rtol=rtol, atol=1e-6, msg=name)


@pytest.mark.parametrize("keep_samples", [False, True])
@pytest.mark.parametrize("n", [20, 40])
@pytest.mark.parametrize("case", SHAPES)
def test_tiles_say_what_the_whole_says(
    case: str, n: int, keep_samples: bool, request: pytest.FixtureRequest
) -> None:
    shape, options = SHAPES[case]
    passes, groups = passes_of(n, shape), PassGroups(n, stratified=True, rates=(0.3,))
    options = {**options, "keep_samples": keep_samples}
    whole = accumulated(passes, groups, 7, **options).result()
    request.getfixturevalue("tiled")
    assert_same(accumulated(passes, groups, 7, **options).result(), whole)


@pytest.mark.parametrize("output_type", ["probs", "log_probs"])
@pytest.mark.parametrize("case", ["pixels", "labels"])
def test_probabilities_may_be_given(
    case: str, output_type: str, request: pytest.FixtureRequest
) -> None:
    shape, options = SHAPES[case]
    scores, groups = passes_of(20, shape), PassGroups(20, stratified=True)
    probs = scores.sigmoid() if options else scores.softmax(dim=2)
    options = {**options, "output_type": output_type}
    values = probs if output_type == "probs" else probs.log()
    whole = accumulated(values, groups, 20, **options).result()
    request.getfixturevalue("tiled")
    assert_same(accumulated(values, groups, 20, **options).result(), whole, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("n", [20, 40])
def test_any_precision_is_taken(n: int, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    passes, groups = passes_of(n, (2, 3, 6, 5)).to(dtype), PassGroups(n, stratified=True)
    whole = accumulated(passes, groups, 8).result()
    request.getfixturevalue("tiled")
    rtol = 1e-9 if dtype == torch.float64 else 1e-4
    assert_same(accumulated(passes, groups, 8).result(), whole, rtol)


@pytest.mark.parametrize("layout", ["channels last", "expanded", "transposed"])
def test_memory_may_lie_in_any_order(layout: str, tiled: None) -> None:
    passes, groups = passes_of(20, (2, 3, 4, 4)), PassGroups(20, stratified=True)
    if layout == "channels last":
        found = passes.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        found = found.unflatten(0, (20, 2))
    elif layout == "transposed":
        found = passes.transpose(-1, -2).contiguous().transpose(-1, -2)
    else:
        passes = passes[:, :, :, :1].expand(-1, -1, -1, 4, -1)
        found, passes = passes, passes.contiguous()
    before = found.clone()
    whole = accumulated(passes, groups, 5).result()
    assert_same(accumulated(found, groups, 5).result(), whole, rtol=0)
    assert torch.equal(found, before)


@pytest.mark.parametrize("n", [20, 50, 100])
@pytest.mark.parametrize("chunk", [1, 7, 16, 33])
def test_sizes_of_chunks_change_no_bit(n: int, chunk: int, tiled: None) -> None:
    passes, groups = passes_of(n, (2, 3, 5)), PassGroups(n, stratified=True)
    found = accumulated(passes, groups, chunk).result()._tensors()
    for name, value in accumulated(passes, groups, n).result()._tensors().items():
        assert torch.equal(found[name], value)


def test_results_may_be_asked_for_again(tiled: None) -> None:
    for n in (20, 48):
        accumulator = accumulated(passes_of(n, (2, 3, 5)), PassGroups(n, stratified=True), 16)
        assert_same(accumulator.result(), accumulator.result(), rtol=0)


@pytest.mark.parametrize("shape", [(8, 3, 4), (8, 2, 40), (20, 4)])
@pytest.mark.parametrize("begun", [8, 16, 24])
def test_rows_go_on_by_themselves(shape: tuple[int, ...], begun: int, tiled: None) -> None:
    passes, groups = passes_of(48, shape), PassGroups(None, stratified=True)
    first = accumulated(passes[:begun], groups, 16)
    # Rows 7, 5, 0, 2, and of these 2, 7, 5.
    part = first.rows(torch.tensor([7, 5, 0, 2])).rows(torch.tensor([3, 0, 1]))
    for chunk in passes[begun:, [2, 7, 5]].split(16):
        part.update(chunk)
    whole = accumulated(passes, groups, 16).result()
    assert_same(part.result(), whole[torch.tensor([2, 7, 5])], rtol=1e-6)


def test_rows_stay_together(tiled: None) -> None:
    passes, groups = passes_of(16, (30, 4)), PassGroups(None, stratified=True)
    accumulator = accumulated(passes, groups, 16)
    rest = torch.arange(30)[torch.arange(30) % 3 > 0]
    left = accumulator.rows(rest)
    for each in (accumulator, left):
        assert each._maps is not None
        # 36 numbers are 9 rows.
        assert len(each._maps._tiles) == 4


def test_memory_does_not_grow_with_passes(tiled: None) -> None:
    def held(n: int, n_together: int) -> int:
        maps = ClassMaps(PassGroups(n, stratified=True), "logits", torch.float32)
        for chunk in passes_of(n, (1, 3, 20)).split(n_together):
            maps.update(chunk.clone())
        return sum(x.untyped_storage().nbytes() for x in maps._waiting) // (3 * 20 * 4)

    for n_together in (7, 16, 90):
        assert held(100, n_together) < 16
        assert held(1000, n_together) < 16
        # A grid has fewer than 32.
        assert held(31, n_together) == 31


def test_outputs_that_contradict_are_refused_as_a_whole(tiled: None) -> None:
    groups = PassGroups(20, stratified=True)
    passes = passes_of(20, (4, 3, 5))
    broken = passes.clone()
    broken[3, 2, 0, 1] = broken[4, 3, 1, 2] = torch.nan
    with pytest.raises(NonFiniteError, match=r"2 row\(s\): 12, 13"):
        accumulated(broken, groups, 20)
    with pytest.raises(OutputError, match="probabilities: rows sum to 1"):
        accumulated(passes.softmax(dim=2), groups, 20)
    with pytest.raises(OutputError, match="rows that sum to"):
        accumulated(passes, groups, 20, output_type="probs")
    with pytest.raises(OutputError, match="values from"):
        accumulated(passes, groups, 20, output_type="probs", multilabel=True)
    with pytest.raises(ShapeError, match="C >= 2"):
        accumulated(passes[:, :, :1], groups, 20)
    # Some places may look like probabilities: a tile of them decides nothing.
    passes[:, 0] = passes[:, 0].softmax(dim=1)
    accumulated(passes, groups, 20).result()


def test_numbers_whose_sum_overflows_are_finite(tiled: None) -> None:
    passes = torch.full((20, 2, 3, 5), 1e38)
    passes[:, :, 0] *= -1
    found = accumulated(passes, PassGroups(20, stratified=True), 20).result()
    half = torch.tensor([0.0, 0.5, 0.5]).view(1, 3, 1).expand(2, 3, 5)
    torch.testing.assert_close(found.probs, half)
    assert float(found.probs_std.max()) == 0


def test_many_classes_of_few_rows_are_looked_at_row_by_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes, groups = passes_of(20, (3, 30)), PassGroups(20, stratified=True)
    whole = accumulated(passes, groups, 20).result()
    monkeypatch.setattr(LARGE, 1)
    monkeypatch.setattr("mcdrop._tasks.class_maps._MANY_CLASSES", 30)
    monkeypatch.setattr(TILE, 30)
    assert_same(accumulated(passes, groups, 20).result(), whole)


class Pixels(nn.Module):
    """A small segmentation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.drop = nn.Dropout2d(0.3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.drop(self.first(x).relu()))
        return found


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"n_samples": "auto"}])
def test_predictions_of_a_network(masks: Any, options: dict[str, Any], tiled: None) -> None:
    torch.manual_seed(0)
    net, x = Pixels().eval(), torch.rand(5, 1, 6, 6)
    given: dict[str, Any] = {"n_samples": 40, "task": "classification", "seed": 0, **options}
    found = mcdrop.wrap(net, masks=masks).predict_with_uncertainty(x, **given)
    n_samples = found.n_samples
    passes = mcdrop.wrap(net, masks=masks).sample(x, n_samples, seed=0).double().softmax(dim=2)
    if found.passes_per_row is None:
        torch.testing.assert_close(found.probs, passes.mean(dim=0).float())
    else:
        for row, count in enumerate(found.passes_per_row.tolist()):
            mean = passes[: int(count), row].mean(dim=0).float()
            torch.testing.assert_close(found.probs[row], mean, rtol=1e-4, atol=1e-5)
