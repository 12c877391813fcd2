"""Writes the figures of coverage and mutants into docs/trust.md, from their records.

python -m tests.quality.page
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.quality.explained import LINES, MUTANTS

__all__ = ["PAGE", "figures", "with_figures"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "trust.md"
_PLACE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


def figures() -> str:
    """Return the table of figures that have a record, with every exception and its reason."""
    rows, notes = [], []
    lines = _read("coverage")
    if lines is not None:
        share = f"{lines['run']:,} of {lines['lines']:,} lines, {lines['percent']:.1f} %"
        rows.append(_row("lines that the default suite runs", share, "coverage"))
        notes += _notes(lines["not run"], LINES)
    faults = _read("mutants")
    if faults is not None:
        explained = _notes(faults["survived"], MUTANTS)
        left = len(faults["survived"]) - len(explained)
        share = f"{faults['killed']} of {faults['run']} sampled from {faults['possible']:,}"
        share += f"; of the others {len(explained)} explained, {left} open"
        rows.append(_row("single faults that a test notices", share, "mutants"))
        notes += explained
    if not rows:
        return ""
    return "\n".join(["| measured | figure | record |", "|---|---|---|", *rows, "", *notes]) + "\n"


def _row(what: str, share: str, name: str) -> str:
    return f"| {what} | {share} | [{name}](data/{name}.json) |"


def _notes(names: Iterable[str], reasons: dict[str, str]) -> list[str]:
    return [f"- `{name}`: {reasons[name]}." for name in names if name in reasons]


def with_figures(page: str) -> str:
    """Return the page with the figures in their place."""
    return _PLACE.sub(lambda _: figures(), page)


def _read(name: str) -> dict[str, Any] | None:
    path = ROOT / "docs" / "data" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    PAGE.write_text(with_figures(PAGE.read_text()))
