"""Arrays in and out: kinds, dtypes and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError
from mcdrop.metrics._arrays import require_passes, row_means, take, take_weights


@pytest.mark.parametrize(
    ("given", "kind", "dtype"),
    [
        ([1.0], np.ndarray, "float64"),
        (np.array([1], np.int32), np.ndarray, "float64"),
        (np.array([1], np.float32), np.ndarray, "float32"),
        (np.array([1], np.float16), np.ndarray, "float16"),
        (torch.tensor([1]), torch.Tensor, "torch.float32"),
        (torch.tensor([1.0], dtype=torch.bfloat16), torch.Tensor, "torch.bfloat16"),
    ],
)
def test_results_return_in_kind_and_dtype_of_the_prediction(
    given: Any, kind: type, dtype: str
) -> None:
    origin, (values,) = take("f", mean=given)
    assert values.dtype == torch.float64
    restored = origin.restore(values)
    assert isinstance(restored, kind)
    assert str(restored.dtype) == dtype


def test_targets_do_not_widen_the_result_and_predictions_do() -> None:
    single, double = np.zeros(1, np.float32), np.zeros(1)
    assert take("f", mean=single, y=double)[0].dtype == torch.float32
    assert take("f", mean=single, std=double)[0].dtype == torch.float64


def test_read_only_arrays_are_taken() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    assert take("f", mean=array)[1][0].tolist() == [0.0, 1.0, 2.0]


def test_weights_are_ones_or_one_per_row() -> None:
    like = torch.zeros(2, 3)
    assert take_weights("f", None, like).tolist() == [1.0, 1.0]
    assert take_weights("f", [0, 2], like).tolist() == [0.0, 2.0]
    with pytest.raises(ShapeError, match=r"`weights` to have shape \(2,\), but got \(3,\)"):
        take_weights("f", [1, 1, 1], like)
    with pytest.raises(RangeError, match="`weights` to be at least 0 and not all 0"):
        take_weights("f", [0, 0], like)
    with pytest.raises(NonFiniteError, match="`weights` to hold finite numbers"):
        take_weights("f", [np.inf, 1], like)


def test_outputs_of_a_row_are_averaged() -> None:
    assert row_means(torch.tensor([[1.0, 3.0], [5.0, 5.0]])).tolist() == [2.0, 5.0]
    assert row_means(torch.tensor([1.0, 3.0])).tolist() == [1.0, 3.0]


def test_what_holds_no_numbers_is_named() -> None:
    with pytest.raises(ShapeError, match="`mean` to be rectangular, but got rows of unequal len"):
        take("f", mean=[[1.0], [1.0, 2.0]])
    with pytest.raises(UnsupportedError, match="`mean` to hold real numbers, but got dtype <U1"):
        take("f", mean=["a"])
    with pytest.raises(UnsupportedError, match="dtype torch.complex64"):
        take("f", mean=torch.zeros(1, dtype=torch.complex64))


def test_an_axis_of_one_element_may_be_reversed() -> None:
    for array in (np.zeros((3, 1))[:, ::-1], np.zeros(1)[::-1], np.zeros((1, 3))[::-1]):
        assert torch.equal(take("f", mean=array)[1][0], torch.zeros(array.shape).double())


def test_numbers_that_cannot_be_read_are_refused() -> None:
    masked = np.ma.masked_greater([1.0, 999.0], 100.0)
    with pytest.raises(UnsupportedError, match="`y` to hold numbers in all places, but got 1 mask"):
        take("f", mean=[1.0, 1.0], y=masked)
    with pytest.raises(UnsupportedError, match="`mean` to hold numbers .*, but got a meta tensor"):
        take("f", mean=torch.zeros(2, device="meta"))
    learned = [torch.ones((), requires_grad=True)]
    with pytest.raises(UnsupportedError, match=r"`mean` to be an array, but got list \(Can't call"):
        take("f", mean=learned)


@pytest.mark.parametrize(
    ("samples", "y", "least", "text"),
    [
        ((3, 9), (3,), 1, r"(S, 3) to match `y`, but got (3, 9). Put passes first: samples.T."),
        ((1, 3), (3,), 2, r"(S, 3) with S >= 2, but got (1, 3). Draw more passes."),
        (
            (9, 3),
            (3, 1),
            1,
            r"(S, 3, 1) to match `y`, but got (9, 3). Drop the last axis of `y`: y.squeeze(-1).",
        ),
    ],
)
def test_passes_that_do_not_match_are_refused(
    samples: tuple[int, ...], y: tuple[int, ...], least: int, text: str
) -> None:
    with pytest.raises(ShapeError) as caught:
        require_passes("f", "samples", torch.zeros(samples), torch.zeros(y), least=least)
    assert str(caught.value) == "f: expected `samples` to have shape " + text


def test_passes_of_several_outputs_match() -> None:
    require_passes("f", "samples", torch.zeros(5, 3, 2), torch.zeros(3, 2))
