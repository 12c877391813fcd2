"""Parts become one file of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from mcdrop import UnsupportedError
from mcdrop._files import joining
from mcdrop._files.blocks import Block
from mcdrop._files.joining import JOINERS, check_id_kinds, check_ids
from mcdrop._files.parts import Part, PartFolder

ARRAYS = {
    "mean": (["mean_0", "mean_1"], [2], "<f4"),
    "label": (["label"], [], "<i8"),
    "probs": ([f"probs_{i}_{j}" for i in range(2) for j in range(2)], [2, 2], "<f8"),
}


def parts(tmp_path: Path) -> tuple[list[Part], dict[str, Any]]:
    """Five parts of 1 to 5 rows, and the arrays that they hold."""
    folder = PartFolder(tmp_path / "out.npz")
    folder.path.mkdir()
    generator = np.random.default_rng(0)
    whole: dict[str, Any] = {
        "id": np.array(["é" * (i + 1) for i in range(15)]),
        "mean": generator.normal(size=(15, 2)).astype(np.float32),
        "label": generator.integers(9, size=15),
        "probs": generator.normal(size=(15, 2, 2)),
    }
    first = 0
    for size in range(1, 6):
        rows = slice(first, first + size)
        columns = {"id": pa.array(whole["id"][rows])}
        for name, (names, _, _) in ARRAYS.items():
            flat = whole[name][rows].reshape(size, -1)
            columns |= {column: pa.array(flat[:, i]) for i, column in enumerate(names)}
        folder.add(
            first, pa.table(columns), {"rows": "", "ids": ["id"], "arrays": ARRAYS, "split": None}
        )
        first += size
    return folder.parts(), whole


@pytest.mark.parametrize("group", [1, 4, 100])
def test_tables_hold_the_rows_of_all_parts(
    group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_GROUP", group)
    made, whole = parts(tmp_path)
    for suffix, read in ((".parquet", parquet.read_table), (".csv", csv.read_csv)):
        with (tmp_path / f"x{suffix}").open("wb") as file:
            JOINERS[suffix](made, file)
        table = read(tmp_path / f"x{suffix}")
        assert table["id"].to_pylist() == whole["id"].tolist()
        # Every digit is written: float32 comes back as it was, also from text.
        found = table["mean_1"].to_numpy().astype(np.float32)
        np.testing.assert_array_equal(found, whole["mean"][:, 1])
        np.testing.assert_array_equal(table["probs_1_0"], whole["probs"][:, 1, 0])
    groups = parquet.ParquetFile(tmp_path / "x.parquet").metadata.num_row_groups
    # 1 + 2 + 3 and 4 rows reach four, and the rest comes last.
    assert groups == {1: 5, 4: 3, 100: 1}[group]


def test_archives_hold_arrays_in_their_shapes(tmp_path: Path) -> None:
    made, whole = parts(tmp_path)
    with (tmp_path / "x.npz").open("wb") as file:
        JOINERS[".npz"](made, file)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert found.files == list(whole)
        for name, values in whole.items():
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".csv", pa.list_(pa.int8())),
        (".npz", pa.list_(pa.int8())),
        (".npz", pa.decimal128(5, 2)),
        (".npz", pa.timestamp("s", "UTC")),
        (".npz", pa.binary()),
    ],
)
def test_ids_that_do_not_go_into_the_file_are_refused_first(suffix: str, kind: Any) -> None:
    with pytest.raises(UnsupportedError, match=rf"`id_columns` to be of a kind that \{suffix} can"):
        check_id_kinds(suffix, pa.schema([("id", kind)]))
    check_id_kinds(".parquet", pa.schema([("id", kind)]))


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])
def test_common_ids_go_into_every_file(suffix: str) -> None:
    kinds = [pa.string(), pa.large_string(), pa.int64(), pa.uint8(), pa.float32(), pa.bool_()]
    kinds += [pa.timestamp("ns"), pa.date32()]
    check_id_kinds(suffix, pa.schema([(str(i), kind) for i, kind in enumerate(kinds)]))


def test_missing_ids_are_refused_for_archives_alone() -> None:
    block = Block(20, np.ones((3, 1)), pa.table({"id": ["a", None, "c"]}))
    with pytest.raises(UnsupportedError, match=r"every row of a \.npz file, but got none in 'id'"):
        check_ids(".npz", block, lambda row: f"row {row}")
    check_ids(".csv", block, str)
