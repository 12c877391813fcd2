from __future__ import annotations

from pathlib import Path

import pytest

from mcdrop.report.report import written
from tests.report.made import Reports


def test_repr_is_one_line(reports: Reports) -> None:
    shown = repr(reports["regression"])
    assert "\n" not in shown
    assert shown.startswith("CalibrationReport(regression, 120 rows, MC dropout vs Ridge vs Point:")


class Interrupted(str):
    __slots__ = ()

    def encode(self, *_: object, **__: object) -> bytes:
        raise KeyboardInterrupt


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert written(path, "first").read_text() == "first"
    with pytest.raises(KeyboardInterrupt):
        written(path, Interrupted("second"))
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
