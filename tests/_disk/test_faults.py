"""What is wrong with a file, in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcdrop import UnsupportedError
from mcdrop._disk.faults import reading, require_file, wrong


def test_the_text_names_the_file_and_the_first_line_of_the_reason() -> None:
    error = wrong(Path("some/where.csv"), "be a table", "no header.\nAnd more.", "Write it anew")
    text = "mcdrop: expected `file` to be a table, but got where.csv (no header). Write it anew."
    assert str(error) == text
    assert "but got where.csv. Try" in str(wrong(Path("where.csv"), "end", "", "Try"))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"")
    with pytest.raises(UnsupportedError, match=r"hold data, but got x\.csv \(an empty file\)"):
        require_file(path)
    with pytest.raises(FileNotFoundError):
        require_file(tmp_path / "y.csv")


class _ContradictionError(Exception):
    """An error that no error of the standard library is like."""


def test_errors_of_another_package_name_the_file_if_they_are_listed() -> None:
    said = r"hold a program, but got a\.pt2 \(no parameter\)"
    with (
        pytest.raises(UnsupportedError, match=said),
        reading(Path("a.pt2"), "hold a program", also=(_ContradictionError,)),
    ):
        raise _ContradictionError("no parameter")
    with pytest.raises(_ContradictionError), reading(Path("a.pt2"), "hold a program"):
        raise _ContradictionError("no parameter")
