"""Arrays in and out: kinds, dtypes and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError
from mcdrop.metrics._arrays import row_means, take, take_weights


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
