"""A file is written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from mcdrop._disk.atomic import UNFINISHED, writing


def test_a_file_appears_with_all_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("before")
    with writing(path) as file:
        file.write(b"after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert [each.name for each in tmp_path.iterdir()] == ["x.txt"]


def test_an_unfinished_file_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with suppress(OSError), writing(tmp_path / "x", beside=folder) as file:
        file.write(b"half")
        (unfinished,) = folder.iterdir()
        assert unfinished.name.startswith("x.")
        assert unfinished.name.endswith(UNFINISHED)
        raise OSError
    assert not any(folder.iterdir())
    assert not (tmp_path / "x").exists()


def test_content_is_on_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "x", []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        seen.append(path.exists())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with writing(path) as file:
        file.write(b"content")
    # First the file, under its other name; then the folder, which knows the name.
    assert seen == [False, True]
