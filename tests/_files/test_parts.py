"""The folder of finished parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mcdrop import UnsupportedError
from mcdrop._files.parts import PartFolder


def folder(tmp_path: Path) -> PartFolder:
    made = PartFolder(tmp_path / "out.csv")
    with made.locked():
        made.begin({"seed": 0}, resume=True)
    return made


BESIDE: dict[str, Any] = {"ids": [], "arrays": {}, "split": None}


def table(n_rows: int) -> pa.Table:
    return pa.table({"mean": [0.5] * n_rows})


def test_parts_are_found_again_in_order(tmp_path: Path) -> None:
    made = folder(tmp_path)
    made.add(0, table(3), {"rows": "x", **BESIDE})
    made.add(3, table(2), {"rows": "y", **BESIDE})
    first, second = PartFolder(tmp_path / "out.csv").parts()
    assert (first.first, first.end, second.first, second.end) == (0, 3, 3, 5)
    assert (first.metadata(), second.metadata()) == (
        {"rows": "x", **BESIDE},
        {"rows": "y", **BESIDE},
    )
    assert second.table().equals(table(2))
    assert second.schema().equals(table(2).schema)
    made.remove()
    assert not any(tmp_path.iterdir())


def test_a_gap_is_refused(tmp_path: Path) -> None:
    made = folder(tmp_path)
    for first in (0, 2, 4):
        made.add(first, table(2), {})
    made.parts()[1].path.unlink()
    with pytest.raises(UnsupportedError, match="no part before rows-000000000000004"):
        made.parts()


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing else PAR1"])
def test_a_damaged_part_is_refused(content: bytes, tmp_path: Path) -> None:
    made = folder(tmp_path)
    part = made.add(0, table(2), {})
    part.path.write_bytes(content)
    with pytest.raises(UnsupportedError, match=r"`out` to hold whole parts, but got a damaged"):
        made.parts()[0].metadata()
    part = made.add(0, table(2), {})
    from pyarrow import parquet

    parquet.write_table(table(2), part.path)
    with pytest.raises(UnsupportedError, match=r"`out` to hold whole parts, but got another file"):
        part.metadata()


def test_other_settings_are_refused_once_a_part_is_there(tmp_path: Path) -> None:
    made = folder(tmp_path)
    made.begin({"seed": 1}, resume=True)
    made.add(0, table(2), {})
    made.begin({"seed": 1}, resume=True)
    with pytest.raises(UnsupportedError, match=r"but got masks='shared' instead of None, seed=2"):
        made.begin({"seed": 2, "masks": "shared"}, resume=True)
    made.begin({"seed": 2}, resume=False)
    assert made.parts() == []
    assert json.loads((made.path / "settings.json").read_text())["seed"] == 2


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_parts_without_their_settings_are_refused(content: str | None, tmp_path: Path) -> None:
    made = folder(tmp_path)
    made.add(0, table(2), {})
    kept = made.path / "settings.json"
    kept.unlink() if content is None else kept.write_text(content)
    with pytest.raises(UnsupportedError, match=r"resume=False to begin anew"):
        made.begin({"seed": 0}, resume=True)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    made = folder(tmp_path)
    second = PartFolder(tmp_path / "out.csv")
    text = r"written by one process at a time, but got out\.csv\.parts in use"
    with made.locked(), pytest.raises(UnsupportedError, match=text), second.locked():
        pass
    with second.locked():
        pass


def test_unfinished_files_are_swept(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made.path / "rows-000000000000000-000000000000009.parquet.unfinished").write_bytes(b"half")
    made.begin({"seed": 0}, resume=True)
    assert made.parts() == []
    assert sorted(path.name for path in made.path.iterdir()) == ["lock", "settings.json"]
