"""The numbers on the page are those of the committed study."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_table_on_the_page_is_made_from_the_committed_numbers() -> None:
    record = json.loads((ROOT / "docs" / "data" / "active_learning.json").read_text())
    page = (ROOT / "docs" / "acquisition.md").read_text()
    example = runpy.run_path(str(ROOT / "examples" / "active_learning.py"))
    assert example["table"](record["labels"], record["strategies"]) in page
    assert record["command"] in page
