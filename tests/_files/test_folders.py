"""Rows of a folder of Parquet files, as if they were one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from mcdrop import (
    McdropError,
    NonFiniteError,
    OutputError,
    RangeError,
    UnsupportedError,
    predict_file,
)
from mcdrop._files.folders import FolderSource
from tests._files import cases

OPTIONS: dict[str, Any] = {"columns": cases.INPUTS, "id_columns": cases.IDS}


def folder_of(table: pd.DataFrame, path: Path, sizes: tuple[int, ...] = (30, 1, 50, 19)) -> Path:
    """Write files whose names sort as their rows do, beside what Spark leaves in a folder."""
    path.mkdir(exist_ok=True)
    begin = 0
    for number, size in enumerate(sizes):
        rows = table[begin : begin + size]
        rows.to_parquet(path / f"part-{number}.parquet", row_group_size=17)
        begin += size
    (path / "_SUCCESS").write_text("")
    (path / ".part-0.parquet").write_text("a checksum")
    (path / "_metadata.parquet").write_text("not rows")
    return path


@pytest.mark.parametrize("batch_rows", [7, None])
def test_a_folder_gives_the_numbers_of_one_file(batch_rows: int | None, tmp_path: Path) -> None:
    table, model = cases.rows(), cases.network()
    folder = folder_of(table, tmp_path / "in")
    out = tmp_path / "out.parquet"
    done = predict_file(model, folder, out, batch_rows=batch_rows, **OPTIONS)
    assert done.n_rows == 100
    cases.check(cases.read(out), table, cases.whole(model, table))


def test_a_row_is_named_with_its_file_row_group_and_column(tmp_path: Path) -> None:
    table, model = cases.rows(), cases.network()
    broken = table.copy()
    broken.loc[70, "b"] = np.nan
    folder = folder_of(broken, tmp_path / "in")
    out = tmp_path / "out.parquet"
    # Row 70 is row 39 of the third file, in its third group of 17 rows.
    text = r"nan in row 70 \(part-2\.parquet: row 39 \(row group 2\)\), column 'b' of in"
    with pytest.raises(NonFiniteError, match=text):
        predict_file(model, folder, out, batch_rows=20, **OPTIONS)
    folder_of(table, folder)
    done = predict_file(model, folder, out, batch_rows=20, **OPTIONS)
    assert (done.n_kept, done.n_rows) == (60, 100)
    cases.check(cases.read(out), table, cases.whole(model, table))


def test_a_file_added_goes_on_and_one_put_between_is_refused(tmp_path: Path) -> None:
    table, model = cases.rows(), cases.network()
    broken = table.copy()
    broken.loc[70, "b"] = np.nan
    folder = folder_of(broken, tmp_path / "in")
    out = tmp_path / "out.parquet"
    with pytest.raises(NonFiniteError):
        predict_file(model, folder, out, batch_rows=20, **OPTIONS)
    folder_of(table, folder)
    table[:5].to_parquet(folder / "part-00.parquet")
    with pytest.raises(UnsupportedError, match="`data` to begin with the rows that are finished"):
        predict_file(model, folder, out, batch_rows=20, **OPTIONS)
    (folder / "part-00.parquet").rename(folder / "part-9.parquet")
    assert predict_file(model, folder, out, **OPTIONS).n_rows == 105


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (
            lambda t: t.drop(columns="c"),
            RangeError,
            r"columns of part-2\.parquet, which are .* but got \['c'\]",
        ),
        (
            lambda t: t.assign(c="many"),
            UnsupportedError,
            r"hold numbers in part-2\.parquet, but got column 'c' \(.*string\)",
        ),
        (
            lambda t: t.assign(c=t["c"].astype("float32")),
            UnsupportedError,
            r"one type in all files of in, but got 'c' \(float\) in part-2\.parquet after \(double",
        ),
        (
            lambda t: t.assign(number=t["number"].astype("str")),
            UnsupportedError,
            r"but got 'number' \(.*string\) in part-2\.parquet after \(int64\) in part-0",
        ),
    ],
)
def test_a_schema_that_changes_midway_is_refused_before_anything_runs(
    change: Any, kind: type[McdropError], text: str, tmp_path: Path
) -> None:
    folder = folder_of(cases.rows(), tmp_path / "in")
    path = folder / "part-2.parquet"
    change(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(kind, match=text):
        predict_file(cases.network(), folder, tmp_path / "out.parquet", **OPTIONS)
    assert [each.name for each in tmp_path.iterdir()] == ["in"]


def test_other_folders_are_refused(tmp_path: Path) -> None:
    folder = folder_of(cases.rows(), tmp_path / "in")
    with pytest.raises(RangeError, match="lie outside of the folder of `data`"):
        predict_file(cases.network(), folder, folder / "out.parquet", **OPTIONS)
    (tmp_path / "empty").mkdir()
    text = r"predict_file: expected `file` to hold \.parquet files, but got empty \(none\)"
    with pytest.raises(UnsupportedError, match=text):
        FolderSource(tmp_path / "empty", None, [])
    (folder / "part-1.parquet").write_bytes(b"")
    with pytest.raises(UnsupportedError, match=r"hold data, but got part-1\.parquet"):
        FolderSource(folder, cases.INPUTS, [])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise", "nan"])
def test_a_model_that_fails_far_inside_is_named_and_leaves_what_was_done(
    how: str, tmp_path: Path
) -> None:
    n_rows, row = 130_000, 123_457
    inputs = np.random.default_rng(0).normal(size=(n_rows, 3)).astype(np.float32)
    inputs[row, 0] = 1e7
    table = pa.table({name: inputs[:, i] for i, name in enumerate(cases.INPUTS)})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=10_000)
    out = tmp_path / "out.parquet"
    model = cases.Breaks(how).eval()
    # Before the limit is asked for, so that it is the last block that fails.
    text = r"row 123457 \(row group 12\) of in\.parquet"
    options: dict[str, Any] = {"n_samples": 4, "batch_rows": 20_000}
    with pytest.raises(OutputError if how == "raise" else NonFiniteError, match=text):
        predict_file(model, tmp_path / "in.parquet", out, **options)
    parts = sorted(Path(f"{out}.parts").glob("rows-*.parquet"))
    finished = pd.concat([pd.read_parquet(path) for path in parts], ignore_index=True)
    assert len(finished) == 120_000
    inputs[row, 0] = 0.0
    table = pa.table({name: inputs[:, i] for i, name in enumerate(cases.INPUTS)})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=10_000)
    done = predict_file(model, tmp_path / "in.parquet", out, **options)
    assert (done.n_kept, done.n_rows) == (120_000, n_rows)
    pd.testing.assert_frame_equal(pd.read_parquet(out)[:120_000], finished)
