"""Without the report extra numbers remain; pages and figures name what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mcdrop.errors import UnsupportedError
from tests.report.made import Reports

REMEDY = r'but got no such module\. Install it: pip install "mcdrop\[report\]"\.'


def test_figures_without_matplotlib_name_the_extra(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    expected = "CalibrationReport.figures: expected `matplotlib` to be installed, "
    for report in reports.values():
        with pytest.raises(UnsupportedError, match=expected + REMEDY):
            report.figures()


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_pages_without_a_package_name_the_extra(
    missing: str, reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    expected = f"CalibrationReport.to_html: expected `{missing}` to be installed, "
    with pytest.raises(UnsupportedError, match=expected + REMEDY):
        reports["regression"].to_html(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_numbers_need_no_extra(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("jinja2", "matplotlib"):
        monkeypatch.setitem(sys.modules, module, None)
    for report in reports.values():
        assert report.headline in report.to_markdown()
        assert report.to_json(tmp_path / "report.json").stat().st_size > 1000
