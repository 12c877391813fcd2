"""Results put together from tiles are those of the whole, for every task and shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mcdrop._engine.groups import PassGroups
from mcdrop._tasks.accumulate import ClassificationAccumulator
from mcdrop._tasks.regression import RegressionAccumulator
from mcdrop._tasks.tiles import in_tiles, is_large, joined
from mcdrop.errors import NonFiniteError, ShapeError
from mcdrop.prediction.base import Prediction

TILE = "mcdrop._tasks.tiles._TILE"
Make = Callable[[PassGroups], Any]

CLASSES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "classes": ((9, 4), {}),
    "pixels": ((2, 3, 5, 4), {}),
    "one image": ((1, 3, 7, 1), {}),
    "sequence": ((3, 4, 6), {}),
    "binary": ((11,), {"binary": True}),
    "labels": ((9, 3), {"multilabel": True}),
    "redrawn": ((9, 4, 17), {"redrawn": True}),
    "redrawn pixels": ((2, 3, 5, 17), {"redrawn": True}),
}
VALUES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "one value": ((13,), {}),
    "columns": ((9, 4), {"noise_std": torch.tensor([0.1, 0.2, 0.3, 0.4])}),
    "pixels": ((2, 1, 5, 4), {"noise_std": torch.tensor(0.5)}),
    "images with noise": ((2, 3, 5), {"noise_std": torch.rand(3, 5)}),
    "pairs": ((2, 6, 2), {"spread": "log_variance"}),
    "integrated": ((2, 6, 2), {"exact_last": True}),
}


def classifies(options: dict[str, Any]) -> Make:
    return lambda groups: ClassificationAccumulator(
        "f", 0, False, groups, output_type="logits", **options
    )


def regresses(options: dict[str, Any]) -> Make:
    return lambda groups: RegressionAccumulator("f", 0, False, groups, **options)


CASES = [
    *(pytest.param(s, classifies(o), id=f"classification of {k}") for k, (s, o) in CLASSES.items()),
    *(pytest.param(s, regresses(o), id=f"regression of {k}") for k, (s, o) in VALUES.items()),
]


def predicted(passes: Tensor, make: Make) -> Prediction:
    accumulator = make(PassGroups(len(passes), stratified=True, rates=(0.1,)))
    for chunk in passes.split(24):
        accumulator.update(chunk)
    prediction: Prediction = accumulator.result()
    return prediction


@pytest.mark.parametrize("n_samples", [2, 20, 40, 100])
@pytest.mark.parametrize(("shape", "make"), CASES)
def test_tiles_make_up_the_whole(
    shape: tuple[int, ...], make: Make, n_samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = torch.rand(n_samples, *shape, generator=torch.Generator().manual_seed(0))
    whole = predicted(passes, make)
    for tile in (1, 7, 13, 40):
        monkeypatch.setattr(TILE, tile)
        monkeypatch.setattr("mcdrop._tasks.class_maps._TILE", tile)
        monkeypatch.setattr("mcdrop._tasks.class_maps._FEWEST_PLACES", 1)
        tiled = predicted(passes, make)
        assert tiled._tensors().keys() == whole._tensors().keys()
        for name, value in tiled._tensors().items():
            expected = whole._tensors()[name]
            torch.testing.assert_close(value, expected, equal_nan=True, rtol=1e-5, atol=1e-7)


def test_tiles_hold_no_more_numbers_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TILE, 100)
    for shape, most in (((50, 3), 100), ((4, 3, 8, 5), 100), ((2, 3, 2, 80), 240)):
        seen: list[int] = []

        def note(rows: slice, places: slice, shape: Any = shape, seen: Any = seen) -> Any:
            output = torch.zeros(shape)[rows]
            output = output[:, :, places] if output.ndim > 2 else output
            seen.append(output.numel())
            return RegressionLike(output)

        whole = in_tiles(torch.zeros(shape), 2, note)
        assert whole.values.shape == shape
        assert len(seen) > 1
        assert max(seen) <= most


class RegressionLike:
    """Just enough of a prediction."""

    _passes_first = ()

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> RegressionLike:
        return RegressionLike(change("values", self.values))


def test_large_is_what_does_not_fit_the_cache_of_a_core() -> None:
    assert not is_large(torch.zeros(2**14))
    assert is_large(torch.zeros(2**14 + 1))
    assert not is_large(torch.zeros(4, 2**14), 4)
    assert is_large(torch.zeros(4, 2**14 + 1), 4)
    assert not is_large(torch.zeros(2**20, device="meta"))


def test_all_rows_that_are_not_finite_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TILE, 2)
    for options, shape in (({}, (9, 4)), ({"spread": "variance"}, (9, 4, 2))):
        passes = torch.rand(20, *shape)
        passes[3, 2, 0] = passes[11, 7, 3] = torch.nan
        with pytest.raises(NonFiniteError, match=r"NaN or infinity in 2 row\(s\): 2, 7\."):
            predicted(passes, regresses(options))


def test_noise_of_another_shape_is_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TILE, 2)
    with pytest.raises(ShapeError, match=r"shape \(4,\), but got shape \(3,\)"):
        predicted(torch.rand(20, 9, 4), regresses({"noise_std": torch.ones(3)}))


def test_rows_of_parts_are_in_order() -> None:
    parts = [predicted(torch.rand(20, n, 2), regresses({})) for n in (3, 1, 2)]
    whole = joined(parts)
    assert whole.mean.shape == (6, 2)  # type: ignore[attr-defined]
    assert torch.equal(whole.mean[3], parts[1].mean[0])  # type: ignore[attr-defined]
    assert joined(parts[:1]) is parts[0]
