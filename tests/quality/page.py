"""Writes the figures of coverage and mutants into docs/trust.md, from their records.

python -m tests.quality.page
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.quality.explained import LINES, MUTANTS

__all__ = ["DATA", "PAGE", "figures", "with_figures"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "trust.md"
DATA = ROOT / "docs" / "data"
_PLACE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


def figures() -> str:
    """Return the table of figures that have a record, with every exception and its reason."""
    rows, notes = [], []
    lines = _read("coverage")
    if lines is not None:
        share = f"{lines['run']:,} of {lines['lines']:,} lines, {lines['percent']:.1f} %"
        rows.append(_row("lines that the default suite runs", share, "coverage"))
        notes += [f"- `{name}`: {LINES[name]}." for name in lines["not run"] if name in LINES]
    explained = {mutant for mutants in MUTANTS.values() for mutant in mutants}
    # A record for each sample; one survivor of two of them is one fault.
    survived: set[str] = set()
    for path in sorted(DATA.glob("mutants*.json")):
        faults = json.loads(path.read_text())
        n_open = len(set(faults["survived"]) - explained)
        share = f"{faults['killed']} of {faults['run']} sampled from {faults['possible']:,}"
        share += f"; of the others {len(faults['survived']) - n_open} explained, {n_open} open"
        rows.append(_row("single faults that a test notices", share, path.stem))
        survived.update(faults["survived"])
    alike = {why: survived & set(mutants) for why, mutants in MUTANTS.items()}
    notes += [f"- {len(mutants)} not noticed: {why}." for why, mutants in alike.items() if mutants]
    if not rows:
        return ""
    return "\n".join(["| measured | figure | record |", "|---|---|---|", *rows, "", *notes]) + "\n"


def _row(what: str, share: str, name: str) -> str:
    return f"| {what} | {share} | [{name}](data/{name}.json) |"


def with_figures(page: str) -> str:
    """Return the page with the figures in their place."""
    return _PLACE.sub(lambda _: figures(), page)


def _read(name: str) -> dict[str, Any] | None:
    path = DATA / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    PAGE.write_text(with_figures(PAGE.read_text()))
