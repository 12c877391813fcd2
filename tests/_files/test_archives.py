"""Inputs and ids in archives, good and hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcdrop import NonFiniteError, RangeError, UnsupportedError
from mcdrop._files import archives
from mcdrop._files.archives import ArraySource
from mcdrop._files.blocks import Block, RowReader


def everything(source: ArraySource) -> Block:
    found = RowReader(source).take(10**6)
    assert found is not None
    source.check(found)
    return found


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, allow_pickle=True, **arrays)
    return path


def test_inputs_and_ids_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_BYTES", 50)
    x = np.arange(42.0).reshape(7, 2, 3)
    day = np.arange("2020-01-01", "2020-01-08", dtype="M8[D]")
    path = saved(tmp_path / "t.npz", x=x, name=np.array(list("abcdefg")), day=day, rest=np.ones(2))
    source = ArraySource(path, None, ["name", "day"])
    found = everything(source)
    np.testing.assert_array_equal(found.inputs, x)
    assert found.ids["name"].to_pylist() == list("abcdefg")
    assert found.ids["day"].to_pylist() == day.tolist()
    assert found.ids.schema.equals(source.id_schema)
    assert (source.n_rows, source.width, source.place(3)) == (7, 6, "row 3")
    assert len(everything(ArraySource(path, ["rest"], []))) == 2


def test_an_array_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.eye(3))
    np.testing.assert_array_equal(
        everything(ArraySource(tmp_path / "t.npy", None, [])).inputs, np.eye(3)
    )
    path = saved(tmp_path / "t.npz", pixels=np.eye(2))
    assert len(everything(ArraySource(path, None, []))) == 2


@pytest.mark.parametrize(
    ("arrays", "ids", "text"),
    [
        ({"a": np.ones(3), "b": np.ones(3)}, [], r"name the one array of t\.npz that holds"),
        ({"x": np.ones(3)}, ["id"], r"`id_columns` to name different columns of t\.npz"),
        ({"x": np.ones((3, 1)), "id": np.ones(2)}, ["id"], r"hold 3 ids in 'id', one per row"),
        ({"x": np.ones((3, 1)), "id": np.ones((3, 1))}, ["id"], r"hold 3 ids in 'id'"),
        ({"x": np.ones((3, 1)), "id": np.ones(3, complex)}, ["id"], "hold ids that Arrow knows"),
        ({"x": np.array(list("ab"))}, [], r"hold numbers in t\.npz, but got 'x' of dtype <U1"),
        ({"x": np.array([1, None])}, [], r"hold an array as 'x', but got t\.npz \(Python objects"),
        ({"x": np.float64(3)}, [], "have rows in 'x', but got t.npz .a single number"),
    ],
)
def test_what_is_wrong_is_named(
    arrays: dict[str, Any], ids: list[str], text: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "t.npz", **arrays)
    with pytest.raises((RangeError, UnsupportedError), match=text):
        ArraySource(path, None, ids)


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    x = np.zeros((9, 2, 2))
    x[4, 1, 0] = np.nan
    path = saved(tmp_path / "t.npz", x=x)
    with pytest.raises(NonFiniteError, match=r"nan in row 4, place \[1, 0\] of t\.npz"):
        everything(ArraySource(path, None, []))


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(500, 3)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(UnsupportedError, match=r"be an archive of arrays, but got t\.npz"):
        ArraySource(path, None, [])
    path.write_bytes(whole[:3000] + bytes(1000) + whole[4000:])
    with pytest.raises(UnsupportedError, match=r"be whole, but got t\.npz"):
        everything(ArraySource(path, None, []))
