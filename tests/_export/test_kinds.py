"""The page of what exports says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests._export.kinds import ENTRIES, page, reason, row
from tests.zoo import Entry

PAGE = Path(__file__).parents[2] / "docs" / "what-exports.md"


def line_of(entry: Entry) -> str:
    """Return the line of the page about a model."""
    text = PAGE.read_text()
    group = text.split(f"## {entry.group}\n")[1].split("\n## ")[0]
    found = [line for line in group.splitlines() if line.startswith(f"| {entry.name} |")]
    assert len(found) == 1, f"{entry.name} stands {len(found)} times on the page"
    return found[0]


def test_the_page_holds_every_model_of_the_zoo() -> None:
    assert PAGE.read_text() == page(line_of) + "\n"


def test_a_reason_is_what_an_error_says_of_the_model() -> None:
    text = "export: expected `model` to be plain, but got Net, a | b\n c. Serve it elsewhere."
    assert reason(text) == "Net, a / b c"


@pytest.mark.slow
@pytest.mark.filterwarnings(
    # Two passes of a small rate may both keep everything.
    "ignore:export. all 2 passes are alike:UserWarning",
    "ignore:The tensor attributes:UserWarning",
)
@pytest.mark.parametrize("name", ENTRIES)
def test_a_model_exports_or_is_refused_as_the_page_says(name: str) -> None:
    assert row(ENTRIES[name]) == line_of(ENTRIES[name])
