"""Which columns are inputs and ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mcdrop import RangeError, UnsupportedError
from mcdrop._files.columns import Columns, first_bad, is_number

PATH = Path("t.csv")


def test_all_but_the_ids_are_inputs_unless_named() -> None:
    names = ["id", "a", "b"]
    assert Columns.of(PATH, names, None, ["id"]) == Columns(("a", "b"), ("id",))
    named = Columns.of(PATH, names, ["b", "id"], ["id"])
    assert (named.inputs, named.read) == (("b", "id"), ["b", "id"])


def test_wrong_names_are_refused() -> None:
    text = r"`columns` to name different columns of t\.csv, which are \['a'\], but got \['z'\]"
    with pytest.raises(RangeError, match=text):
        Columns.of(PATH, ["a"], ["z"], [])
    with pytest.raises(RangeError, match=r"`id_columns` to name different columns of t\.csv"):
        Columns.of(PATH, ["a"], None, ["a", "a"])
    with pytest.raises(RangeError, match=r"`columns` to leave inputs among the columns of t\.csv"):
        Columns.of(PATH, ["a"], None, ["a"])
    with pytest.raises(UnsupportedError, match=r"columns of different names, but got t\.csv"):
        Columns.of(PATH, ["a", "a"], None, [])


def test_numbers_stand_side_by_side_in_the_order_asked_for() -> None:
    table = pa.table({"a": [1, 2], "b": [0.5, None], "c": [True, False]})
    found = Columns(("c", "a", "b"), ()).numbers(table)
    np.testing.assert_array_equal(found, [[1, 1, 0.5], [0, 2, np.nan]])
    assert Columns(("a",), ()).numbers(table).dtype == np.int64
    single = pa.table({"a": pa.array([1.0], pa.float32())})
    assert Columns(("a",), ()).numbers(single).dtype == np.float32


def test_kinds_of_numbers() -> None:
    kinds = [pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_()]
    assert all(map(is_number, kinds))
    others = [pa.string(), pa.timestamp("s"), pa.decimal128(5, 2), pa.list_(pa.float32())]
    assert not any(map(is_number, others))


def test_the_first_bad_number_is_found() -> None:
    x = np.zeros((4, 2, 2))
    assert first_bad(x) is None
    x[3, 0, 0], x[2, 1, 0] = np.nan, np.inf
    assert first_bad(x) == (2, 1, 0)
    assert first_bad(np.zeros((2, 2), dtype=np.int64)) is None
