"""Rows of Parquet and CSV files, good and hostile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from mcdrop import NonFiniteError, UnsupportedError
from mcdrop._files import tables
from mcdrop._files.blocks import Block, RowReader
from mcdrop._files.tables import CsvSource, ParquetSource


def everything(source: CsvSource | ParquetSource) -> Block:
    found = RowReader(source).take(10**6)
    assert found is not None
    source.check(found)
    return found


@pytest.mark.parametrize("group", [1, 17, 1000])
def test_parquet_of_any_row_groups(
    group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS", 10)
    table = pd.DataFrame({"a": np.arange(100.0), "id": [f"{i}" for i in range(100)]})
    table["b"] = (table["a"] * 2).astype("float32")
    table.to_parquet(tmp_path / "t.parquet", row_group_size=group)
    source = ParquetSource(tmp_path / "t.parquet", None, ["id"])
    found = everything(source)
    np.testing.assert_array_equal(found.inputs, table[["a", "b"]])
    assert found.ids["id"].to_pylist() == table["id"].tolist()
    assert (source.n_rows, source.width) == (100, 2)
    assert source.place(99) == f"row 99 (row group {99 // group})"


def test_ids_of_any_kind_keep_it(tmp_path: Path) -> None:
    import datetime
    import decimal

    ids = pa.table(
        {
            "text": ["é", None],
            "whole": pa.array([2**63, 1], pa.uint64()),
            "time": pa.array([0, 1], pa.timestamp("ns", "UTC")),
            "day": [datetime.date(2020, 1, 1), None],
            "money": [decimal.Decimal("1.10"), decimal.Decimal("2.00")],
            "bytes": [b"\x00", b"\xff"],
            "list": [[1], [2, 3]],
            "kind": pa.array(["u", "v"]).dictionary_encode(),
        }
    )
    parquet.write_table(ids.append_column("x", pa.array([1.0, 2.0])), tmp_path / "t.parquet")
    source = ParquetSource(tmp_path / "t.parquet", ["x"], ids.column_names)
    found = everything(source)
    assert found.ids.to_pylist() == ids.to_pylist()
    assert found.ids.schema.equals(source.id_schema)
    assert len(found.digest()) == 32


def test_csv_ids_are_the_text_that_stands_there(tmp_path: Path) -> None:
    text = 'id,x,y\n007,1,2.5\n"a, ""b""\nc", 2 ,-1e3\n,3,4\nNA,5,6\n'
    (tmp_path / "t.csv").write_text(text)
    found = everything(CsvSource(tmp_path / "t.csv", ["y", "x"], ["id"]))
    assert found.ids["id"].to_pylist() == ["007", 'a, "b"\nc', "", "NA"]
    np.testing.assert_array_equal(found.inputs, [[2.5, 1], [-1000, 2], [4, 3], [6, 5]])


def test_whole_numbers_first_and_fractions_megabytes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BYTES", 64)
    (tmp_path / "t.csv").write_text("x\n" + "1\n" * 200 + "0.5\n")
    found = everything(CsvSource(tmp_path / "t.csv", None, []))
    assert found.inputs[:, 0].tolist() == [1.0] * 200 + [0.5]


@pytest.mark.parametrize("place", [0, 77, 199])
@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("eleven", "`columns` to hold numbers in t.csv, but got 'eleven' in row {}, column 'y'"),
        ("1,5", "be a .csv table, but got t.csv"),
        ("true", "but got 'true' in row {}, column 'y'"),
        ("", "hold finite numbers, but got nan in row {}, column 'y' of t.csv"),
        ("inf", "hold finite numbers, but got inf in row {}, column 'y' of t.csv"),
        ("NaN", "hold finite numbers, but got nan in row {}, column 'y' of t.csv"),
    ],
)
def test_bad_cells_of_csv_are_named(
    cell: str, text: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BYTES", 128)
    lines = ["0.5,1"] * 200
    lines[place] = f"0.5,{cell}"
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *lines]))
    with pytest.raises((UnsupportedError, NonFiniteError)) as refused:
        everything(CsvSource(tmp_path / "t.csv", None, []))
    assert text.format(place) in str(refused.value)


def test_an_empty_line_of_one_column_is_an_empty_cell(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x\n1\n\n2\n")
    with pytest.raises(NonFiniteError, match="nan in row 1, column 'x'"):
        everything(CsvSource(tmp_path / "t.csv", None, []))
    (tmp_path / "t.csv").write_text("x,y\n1,2\n\n3,4\n\n")
    assert len(everything(CsvSource(tmp_path / "t.csv", None, []))) == 2


@pytest.mark.parametrize("content", [b"x,y\n1,2\n3\n", b"x,y\n1,2\n3,4,5\n", b"x,y\n1,\xff\xfe\n"])
def test_damaged_csv_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    text = r"predict_file: expected `\w+` to .*t\.csv"
    with pytest.raises(UnsupportedError, match=text):
        everything(CsvSource(tmp_path / "t.csv", None, []))


def test_text_in_parquet_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    pd.DataFrame({"a": ["x"], "b": [1.0]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UnsupportedError, match=r"but got column 'a' \(.*string\)\. Write numbers"):
        ParquetSource(tmp_path / "t.parquet", None, [])


def test_missing_numbers_in_parquet_are_named(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([1, 2, None, 4])})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    text = r"nan in row 2 \(row group 1\), column 'a' of t\.parquet"
    with pytest.raises(NonFiniteError, match=text):
        everything(ParquetSource(tmp_path / "t.parquet", None, []))


@pytest.mark.parametrize("damage", ["cut", "zeros", "text"])
def test_damaged_parquet_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": np.random.default_rng(0).normal(size=5000)}).to_parquet(path)
    whole = path.read_bytes()
    zeros = whole[:4] + bytes(500) + whole[504:]
    path.write_bytes({"cut": whole[:-100], "zeros": zeros, "text": b"a,b\n1,2\n"}[damage])
    with pytest.raises(UnsupportedError, match=r"be a \.parquet table, but got t\.parquet"):
        everything(ParquetSource(path, None, []))


def test_a_damaged_row_group_is_named_with_its_column(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({name: np.random.default_rng(0).normal(size=5000) for name in "ab"})
    parquet.write_table(table, path, row_group_size=1000, compression="none")
    chunk = parquet.ParquetFile(path).metadata.row_group(3).column(1)
    whole = bytearray(path.read_bytes())
    begin = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    whole[begin : begin + 200] = bytes(200)
    path.write_bytes(whole)
    with pytest.raises(UnsupportedError, match=r"t\.parquet \(row group 3, column 'b': .*thrift"):
        everything(ParquetSource(path, None, []))
