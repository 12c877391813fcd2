"""NumPy and pandas data of every type that is a number; what is none is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._engine.arrays import as_tensor, is_array

pd = pytest.importorskip("pandas")

VALUES = np.array([[1.5, 2.0], [0.0, -3.0]])


def read(value: Any, *, keep_integers: bool = False) -> torch.Tensor:
    return as_tensor("f", value, torch.float32, keep_integers=keep_integers)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "g"])
def test_floats_of_any_width_and_byte_order_take_the_type_of_the_model(dtype: str) -> None:
    found = read(VALUES.astype(dtype))
    assert found.dtype == torch.float32
    assert found.tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("?", torch.bool),
        ("u1", torch.uint8),
        ("i4", torch.int32),
        (">i8", torch.int64),
        ("u2", torch.int64),
        ("u4", torch.int64),
    ],
)
def test_integers_of_an_array_stay_integers_as_indices_do(
    dtype: str, expected: torch.dtype
) -> None:
    found = read(np.array([0, 1, 1]).astype(dtype))
    assert found.dtype == expected
    assert found.tolist() == [0, 1, 1]


def test_memory_is_not_shared_and_may_be_protected() -> None:
    values = VALUES.copy()
    values.setflags(write=False)
    read(values).add_(1)
    assert values[0, 0] == 1.5
    assert read(VALUES[:, ::-1]).tolist() == [[2.0, 1.5], [-3.0, 0.0]]


def test_objects_that_are_numbers_are_read_and_none_is_missing() -> None:
    found = read(np.array([1, 2.5, None, True], dtype=object))
    assert found[[0, 1, 3]].tolist() == [1.0, 2.5, 1.0]
    assert bool(found[2].isnan())


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.array(["a", "b"]), "dtype <U1"),
        (np.array(["2026-01-01"], dtype="M8[D]"), r"dtype datetime64\[D\]"),
        (np.array([1, "x"], dtype=object), "int, str objects"),
        (np.array([1 + 2j]), "dtype complex128"),
    ],
)
def test_what_is_no_number_is_refused(value: Any, found: str) -> None:
    with pytest.raises(mcdrop.UnsupportedError, match=f"`inputs` to hold numbers, but got {found}"):
        read(value)


def test_columns_of_pandas_are_features() -> None:
    pd = pytest.importorskip("pandas")
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    plain = np.array([[1.0, 0.0, 2.0], [3.0, 1.0, 4.0]])
    expected = mcdrop.wrap(net).predict_with_uncertainty(plain, seed=0).mean
    frames = {
        "float": pd.DataFrame(plain),
        "integers": pd.DataFrame(plain.astype(int)),
        "bool and float": pd.DataFrame(
            {"a": plain[:, 0], "b": plain[:, 1].astype(bool), "c": plain[:, 2].astype(int)}
        ),
        "nullable": pd.DataFrame(plain.astype(int)).astype("Int64"),
        "objects": pd.DataFrame(plain).astype(object),
    }
    for name, frame in frames.items():
        found = mcdrop.wrap(net).predict_with_uncertainty(frame, seed=0).mean
        assert torch.equal(found, expected), name
    series = pd.Series([1, 2, 3])
    one = nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 1), nn.Dropout(0.5))
    assert mcdrop.wrap(one).sample(series, 4).shape == (4, 3, 1)
    assert is_array(series)
    assert not is_array([1, 2, 3])


def test_integer_columns_stay_indices_for_embeddings() -> None:
    pd = pytest.importorskip("pandas")
    net = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Dropout(0.5))
    found = mcdrop.wrap(net).sample(pd.DataFrame({"a": [0, 4], "b": [1, 2]}), 4)
    assert found.shape == (4, 2, 8)


def test_missing_values_of_nullable_columns_are_nan() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [0.5, None]}).astype({"a": "Int64", "b": "Float64"})
    table.loc[0, "a"] = pd.NA
    found = read(table)
    assert found.isnan().tolist() == [[True, False], [False, True]]
    assert found[0, 1].item() == 0.5


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (["x", "y"], r"column 'city' \(str\)\. Encode text"),
        (["1", "2"], r"column 'city' \(str\)"),
        (pd.Categorical(["u", "v"]), r"column 'city' \(str\)"),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), r"column 'city' \(Timestamp\)"),
        ([1.0, "y"], r"column 'city' \(str\)"),
    ],
)
def test_columns_that_are_no_numbers_are_named(column: Any, text: str) -> None:
    table = pd.DataFrame({"a": [1.0, 2.0], "city": column})
    with pytest.raises(mcdrop.UnsupportedError, match=f"hold numbers, but got {text}"):
        read(table)
