from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from mcdrop.report import calibration_report
from mcdrop.report.figures import FIGURES
from mcdrop.report.html import typeset
from tests.report.made import Reports, normal_prediction
from tests.report.parsing import parsed

HOSTILE = '<script>alert("x")</script> & $a_b$ | *bold*'


@pytest.fixture
def pages(reports: Reports, tmp_path: Path) -> dict[str, str]:
    return {
        task: report.to_html(tmp_path / f"{task}.html").read_text("utf-8")
        for task, report in reports.items()
    }


def test_a_page_is_whole_and_asks_nothing_of_the_network(pages: dict[str, str]) -> None:
    for page in pages.values():
        tags = parsed(page)
        assert page.startswith("<!DOCTYPE html>")
        assert {"html", "head", "title", "body", "svg"} <= set(re.findall(r"<(\w+)", page))
        assert not re.findall(r"<(link|img|iframe)|<script [^>]*src", page)
        assert page.count("<script>") == 1
        assert "@import" not in page
        linked = [value for _, name, value in tags.attributes if name in {"href", "xlink:href"}]
        assert linked
        assert all(value.startswith(("#", "data:")) for value in linked)
        assert not re.findall(r"url\((?!#)", page)


def test_ids_are_unique_and_every_reference_has_its_target(pages: dict[str, str]) -> None:
    for page in pages.values():
        ids = parsed(page).ids
        assert len(ids) == len(set(ids))
        used = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page)
        assert set(used) <= set(ids)


def test_two_reports_on_one_page_keep_their_ids_apart(
    reports: Reports,
) -> None:
    ids = [set(parsed(report._repr_html_()).ids) for report in reports.values()]
    assert ids[0].isdisjoint(ids[1])


def test_the_same_report_is_the_same_file(reports: Reports, tmp_path: Path) -> None:
    for report in reports.values():
        first = report.to_html(tmp_path / "a.html").read_bytes()
        assert report.to_html(tmp_path / "b.html").read_bytes() == first


def test_a_date_is_shown_only_if_passed(reports: Reports, tmp_path: Path) -> None:
    report = reports["regression"]
    dated = report.to_html(tmp_path / "dated.html", date="3 May 2031").read_text("utf-8")
    assert "3 May 2031" in dated
    plain = report.to_html(tmp_path / "plain.html").read_text("utf-8")
    assert dated.replace(" &middot; 3 May 2031", "") == plain


def test_a_page_shows_verdict_numbers_reasons_and_how_it_was_made(
    reports: Reports, pages: dict[str, str]
) -> None:
    for task, page in pages.items():
        report = reports[task]
        text = "".join(parsed(page).text)
        assert typeset(report.headline) in text
        for finding in report.findings:
            assert typeset(finding) in text
        assert "layers.2" in text
        assert "It could." in text
        assert "seed 7" in text
        for name in report.curves:
            assert FIGURES[name].title in text
    assert "missing: a point forecast states no uncertainty" in pages["regression"]
    assert "missing: one fixed set of weights has none" in pages["classification"]


def test_everything_the_caller_names_is_escaped(tmp_path: Path) -> None:
    prediction, y = normal_prediction(n=60)
    report = calibration_report(
        prediction, y, baselines={HOSTILE: prediction, "_hidden": prediction},
        title=HOSTILE, name="A<b>", n_resamples=10,
    )  # fmt: skip
    page = report.to_html(tmp_path / "hostile.html", date=HOSTILE).read_text("utf-8")
    parsed(page)
    assert page.count("<script") == 1
    assert "<b>" not in page
    table = report.to_markdown().splitlines()
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table if line.startswith("|")}
    # Scores, differences and verdicts, parts, rows to look at, recalibration.
    assert columns == {4, 5, 7}
    assert "<script" not in report.to_markdown().replace("\\<", "")


def test_the_script_is_short_and_a_notebook_does_without(reports: Reports) -> None:
    script = (resources.files("mcdrop.report") / "script.js").read_text("utf-8")
    assert len(script.splitlines()) < 200
    for report in reports.values():
        assert "<script" not in report._repr_html_()


def test_every_entry_of_the_contents_leads_to_its_heading(pages: dict[str, str]) -> None:
    for page in pages.values():
        for anchor, heading in re.findall(r'<li><a href="#(\w+)">([^<]+)</a>', page):
            assert re.search(rf'<section id="{anchor}">\s*<h2>{re.escape(heading)}</h2>', page)
        assert len(re.findall("<section id=", page)) == len(re.findall('<li><a href="#', page))


def test_the_first_screen_answers_and_says_what_to_do(
    reports: Reports, pages: dict[str, str]
) -> None:
    for task, page in pages.items():
        report = reports[task]
        text = page[: page.index('<nav class="contents"')]
        assert f"{report.decision}." in text
        for answer in report.answers:
            assert f'class="tile {answer.grade}"' in text
            assert answer.question in text
        for action in report.actions:
            assert typeset(action).split(":")[0] in text


def test_ids_that_are_not_unicode_are_written_as_escapes(tmp_path: Path) -> None:
    prediction, y = normal_prediction(40)
    # What os.listdir returns for names of files in another encoding.
    ids = [f"\udce4{i}.png" for i in range(40)]
    report = calibration_report(prediction, y, ids=ids, n_resamples=20)
    assert r"\udce4" in report.to_html(tmp_path / "r.html").read_text("utf-8")
    found = json.loads(report.to_json(tmp_path / "r.json").read_text("utf-8"))
    assert any(str(row).startswith("\udce4") for row in strings(found))


def strings(found: Any) -> Iterator[str]:
    """List the texts of a record."""
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    yield from (part for part in parts if isinstance(part, str))
    for part in parts:
        yield from strings(part)
