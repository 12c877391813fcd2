"""The page in a real browser: both themes, a desktop and a phone, the keyboard, and paper."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcdrop.report.measures import MEASURES
from tests.report import browser
from tests.report.browser import Browser
from tests.report.made import Reports

TASKS = ("regression", "classification")
VIEWS = [(width, theme) for width in (390, 1280) for theme in ("light", "dark")]

# Ratio of each text to what lies behind it, by WCAG 2.1, 1.4.3; large text needs 3 instead of 4.5.
CONTRAST = """(() => {
  const parts = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const lum = c => { const [r, g, b] = c.map(v => { v /= 255;
    return v <= .03928 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4); });
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor);
    if (c.length && (c.length < 4 || c[3] > 0)) return c.slice(0, 3); } return [255, 255, 255]; };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || ["script", "style", "title"].includes(e.localName)) continue;
    const s = getComputedStyle(e), svg = e.namespaceURI.endsWith("svg");
    const color = parts(svg ? s.fill : s.color).slice(0, 3);
    const [a, b] = [lum(color), lum(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), size = parseFloat(s.fontSize);
    const large = size >= 24 || (size >= 18.66 && s.fontWeight >= 600);
    if (ratio < (large ? 3 : 4.5)) found.push([text.slice(0, 40), +ratio.toFixed(2)]);
  }
  return found; })()"""
# Height of letters in drawings, in pixels of the screen.
LETTERS = """[...document.querySelectorAll("svg text")].map(t =>
  parseFloat(getComputedStyle(t).fontSize) * Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b))"""
WIDER = """[...document.querySelectorAll("body *")].filter(e =>
  e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = browser.found()
    if path is None:
        pytest.skip("no Chromium: none of " + ", ".join(browser.NAMES) + " is in PATH")
    with Browser(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(reports: Reports, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {task: reports[task].to_html(folder / f"{task}.html") for task in TASKS}


@pytest.mark.parametrize(("width", "theme"), VIEWS)
@pytest.mark.parametrize("task", TASKS)
def test_it_is_quiet_fits_and_can_be_read(
    task: str, width: int, theme: str, chromium: Browser, pages: dict[str, Path]
) -> None:
    chromium.open(pages[task], width=width, theme=theme)
    said = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
    assert not [event for event in chromium.events if event.get("method") in said]
    asked = [
        event["params"]["request"]["url"]
        for event in chromium.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert asked == [pages[task].resolve().as_uri()]
    assert chromium.run("document.documentElement.scrollWidth") <= width, chromium.run(WIDER)
    assert chromium.run(CONTRAST) == []
    letters = chromium.run(LETTERS)
    assert letters
    assert min(letters) >= 12
    dark = sum(map(int, re.findall(r"\d+", _background(chromium))[:3])) < 150
    assert dark == (theme == "dark")


def _background(chromium: Browser) -> str:
    found: str = chromium.run("getComputedStyle(document.body).backgroundColor")
    return found


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_is_on_the_first_screen(
    task: str, chromium: Browser, pages: dict[str, Path], reports: Reports
) -> None:
    for width in (390, 1280):
        chromium.open(pages[task], width=width, theme="light")
        top = "document.querySelector('{}').getBoundingClientRect().bottom"
        assert chromium.run(top.format(".answer")) < 400
        assert chromium.run(top.format(".headline")) < 600
        text = chromium.run("document.querySelector('.answer').textContent")
        assert text == f"{reports[task].decision}."
    assert chromium.run(top.format(".tiles")) < 900
    assert chromium.run("document.querySelectorAll('.tile').length") == 3


def shown(chromium: Browser, section: str) -> dict[str, list[str]]:
    """Return the cells of a table by the label of their row."""
    rows: list[list[str]] = chromium.run(
        f"[...document.querySelectorAll('#{section} tbody tr')].map(r => "
        "[...r.cells].map(c => c.textContent.trim().replaceAll('\u00a0', ' ')))"
    )
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("task", TASKS)
def test_the_numbers_of_the_page_are_those_of_its_downloads(
    task: str, chromium: Browser, pages: dict[str, Path], reports: Reports, tmp_path: Path
) -> None:
    chromium.open(pages[task], width=1280, theme="light")
    links = chromium.run("[...document.querySelectorAll('.downloads a')].map(a => a.href)")
    numbers, table = (base64.b64decode(link.split(",")[1]).decode() for link in links)
    record = json.loads(numbers)
    assert record == json.loads(reports[task].to_json(tmp_path / "r.json").read_text())
    assert table.splitlines()[0] == "method,metric,kind,value,low,high,level,rows"
    cells = shown(chromium, "scores")
    compared = 0
    for column, method in enumerate(record["methods"]):
        for key, entry in method["metrics"].items():
            row = next(cells[label] for label in cells if label.startswith(MEASURES[key].label))
            compared += _agree(row[column], key, entry)
            if entry["value"] is not None:
                assert f"{method['name']},{key},score,{entry['value']!r}" in table
    assert compared > 10
    assert chromium.run("document.querySelector('.headline').textContent") == (
        record["headline"].replace(" %", "\N{NO-BREAK SPACE}%").replace(" -", " \N{MINUS SIGN}")
    )


def _agree(cell: str, key: str, entry: dict[str, Any]) -> int:
    """Compare value and interval of a cell with a record, to the digits that are shown."""
    if entry["value"] is None:
        assert cell == f"missing: {entry['reason']}"
        return 0
    scale = 100 if MEASURES[key].unit == "share" else 1
    shown_numbers = re.findall(r"-?\d+\.?\d*", cell.replace("\N{MINUS SIGN}", "-"))[:3]
    for text, end in zip(shown_numbers, ("value", "low", "high"), strict=True):
        digits = len(text.partition(".")[2])
        assert abs(float(text) - scale * entry[end]) <= 0.5 * 10**-digits * (1 + 1e-6)
    return 1


def test_a_table_is_sorted_by_the_keyboard(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["classification"], width=1280, theme="light")
    head = "document.querySelector('#parts thead th:nth-child(2)')"
    chromium.run(f"{head}.querySelector('button').focus()")
    rows = "[...document.querySelectorAll('#parts tbody tr')].map(r => +r.cells[1].textContent)"
    for direction in ("ascending", "descending"):
        chromium.press("Enter")
        assert chromium.run(f"{head}.getAttribute('aria-sort')") == direction
        counts = chromium.run(rows)
        assert counts == sorted(counts, reverse=direction == "descending")


def test_links_and_buttons_are_reached_with_tab(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["regression"], width=1280, theme="light")
    seen = []
    for _ in range(60):
        chromium.press("Tab")
        seen.append(
            chromium.run("document.activeElement.tagName + document.activeElement.outerHTML")
        )
    wanted = chromium.run("document.querySelectorAll('a').length")
    assert sum(item.startswith("A") for item in set(seen)) == wanted
    findings = "document.querySelectorAll('.findings li')"
    links = f"[...{findings}].map(li => li.querySelector('a').hash === '#' + li.id)"
    assert chromium.run(links) == [True] * chromium.run(f"{findings}.length")
    assert any(item.startswith("BUTTON") for item in seen)


@pytest.mark.parametrize("task", TASKS)
def test_drawings_say_what_they_show(task: str, chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages[task], width=1280, theme="light")
    labels = chromium.run(
        "[...document.querySelectorAll('[role=img]')].map(e => e.getAttribute('aria-label'))"
    )
    assert len(labels) >= 3
    for label in labels:
        assert re.search(r"\? .*: .*\d.*\.$", label) or "none of" in label


@pytest.mark.parametrize("task", TASKS)
def test_on_paper_it_is_light_whatever_the_theme(
    task: str, chromium: Browser, pages: dict[str, Path]
) -> None:
    chromium.open(pages[task], width=1280, theme="dark", media="print")
    assert _background(chromium) == "rgb(255, 255, 255)"
    assert chromium.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    pdf = base64.b64decode(chromium.call("Page.printToPDF")["data"])
    pages_of_it = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 2 <= pages_of_it <= 12
