"""Write the page of what is guaranteed, from the records of the simulations.

Also the tables between marks in docs/how-many-passes.md. `make statements` runs the simulations
first; `python examples/benchmarks/statements.py` makes the pages alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from record import markdown

DOCS = Path(__file__).parents[2] / "docs"

# What the jackknife alone would give, and scores that ignore strata, are compared on
# docs/how-many-passes.md.
_LEFT_OUT = ("jackknife alone", "strata ignored")

_HEAD = """# What the statements guarantee

Every interval, flag and guarantee of the library, with the rate it promises and the rate found in
simulation, at the sample sizes where it matters. A rate is followed by its standard error in units
of the last digit: .047(4) is 0.047 with a standard error of 0.004. `make statements` repeats all of
it; the records are `docs/data/statements_*.json`. Rates may differ from the promise where the
promise is an inequality: "at most" for false alarms, "at least" for coverage. Exact tests of
discrete data stay below their level where rows are few.
"""

_PARTS = {
    "report": (
        "The calibration report",
        "All verdicts of a page share one level, 5 % (Holm). n is the number of rows.",
    ),
    "metrics": (
        "Tests and intervals of `mcdrop.metrics`",
        "False alarms at level 5 %, coverage of 95 % intervals. n is the number of rows.",
    ),
    "recalibration": (
        "Recalibration and conformal sets",
        "n is the number of calibration rows; the promise depends on it, k / (n + 1) for ranks.",
    ),
    "passes": (
        "Monte Carlo errors over passes",
        "n is the number of passes, S. Ratios are to the exact value by enumeration; those of the"
        " PIT are of twice its mean and twelve times its variance. Entropy is no polynomial of the"
        " probabilities, so no estimate from finitely many passes is without bias at every network:"
        " the corrected mutual information keeps one of fourth order at S = 16 and of third from 32"
        " on, which shows in the saturated network, whose probabilities have standard deviations of"
        " up to five times their mean. The saturated one at p = 0.05 also keeps an undercoverage,"
        " because masks that matter are not drawn ([how many passes](how-many-passes.md)).",
    ),
}


def page() -> str:
    """Return the page as Markdown."""
    sections = [_HEAD]
    for name, (title, text) in _PARTS.items():
        record = json.loads((DOCS / "data" / f"statements_{name}.json").read_text())
        sections.append(f"## {title}\n\n{text}\n\n`{record['command']}`\n")
        sections.append(table(record["statements"]) + "\n")
    return "\n".join(sections)


def with_tables(text: str) -> str:
    """Return a page with what stands between its marks made from the record of passes."""
    record = json.loads((DOCS / "data" / "statements_passes.json").read_text())
    found = {(each["statement"], each["n"]): each["simulated"] for each in record["statements"]}
    for name, made in (("coverage", coverages(found)), ("bias", biases(found))):
        marked = re.compile(f"(<!-- {name} -->\n)(.*?)(<!-- end -->)", re.DOTALL)
        if marked.search(text) is None:
            raise ValueError(f"no marks of {name!r} on the page")
        begin, end = f"<!-- {name} -->\n\n", "\n\n<!-- end -->"
        text = marked.sub((begin + made + end).replace("\\", r"\\"), text)
    return text


def coverages(found: dict[tuple[str, int], float]) -> str:
    """Return coverage by network, quantity and S; in brackets that of the jackknife alone."""
    pattern = re.compile(r"(\w+) within 1.96 standard errors: (.*), stratified")
    sizes = (16, 32, 64, 100, 256)
    rows: list[list[str]] = []
    for statement in dict.fromkeys(statement for statement, _ in found):
        if match := pattern.fullmatch(statement):
            alone = statement.replace("errors:", "errors, jackknife alone:")
            cells = [f"{found[statement, n]:.2f} ({found[alone, n]:.2f})" for n in sizes]
            rows.append([match[2], f"`{match[1]}`", *cells])
    return markdown(["network", "quantity", *(f"S = {n}" for n in sizes)], rows)


def biases(found: dict[tuple[str, int], float]) -> str:
    """Return the bias of estimates by network, rate and S."""
    pattern = re.compile(r"(.*) over its exact value: 10 units, (\w+), p = (.*)")
    sizes = (16, 32, 64, 100)
    rows: list[list[str]] = []
    for statement in dict.fromkeys(statement for statement, _ in found):
        match = pattern.fullmatch(statement)
        if match and match[1] != "mean PIT":
            cells = [f"{100 * (found[statement, n] - 1):+.1f} %" for n in sizes]
            rows.append([match[2], match[1], match[3], *cells])
    header = ["network", "estimate", "p", *(f"S = {n}" for n in sizes)]
    return markdown(header, sorted(rows, key=lambda row: (row[0], row[1])))


def table(entries: Iterable[dict[str, Any]]) -> str:
    """Return one line per statement with its rates by sample size."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if not any(words in entry["statement"] for words in _LEFT_OUT):
            lines.setdefault(entry["statement"], []).append(entry)
    rows = []
    for statement, found in lines.items():
        promised = {f"{_relation(entry)}{entry['nominal']:.3g}" for entry in found}
        promise = promised.pop() if len(promised) == 1 else ""
        rates = ", ".join(
            f"{_before(entry, promise)}{rate(entry['simulated'], entry['se'])} at {entry['n']}"
            for entry in found
        )
        rows.append([statement.replace("|", "\\|"), promise or "by n", rates])
    return markdown(["statement", "promised", "simulated, at n"], rows)


def rate(value: float, error: float) -> str:
    """Return a rate with its standard error in units of the last digit."""
    digits = 3 if abs(value) < 10 else 1
    return f"{value:.{digits}f}({round(error * 10**digits) or '<1'})".replace("-0.", "-.")


def _before(entry: dict[str, Any], promise: str) -> str:
    """Return the promise of one sample size, where they differ."""
    return "" if promise else f"{_relation(entry)}{entry['nominal']:.3g}: "


def _relation(entry: dict[str, Any]) -> str:
    """Return how the promise is meant, as a prefix."""
    return {"at least": ">= ", "at most": "<= "}.get(entry.get("relation", ""), "")


if __name__ == "__main__":
    (DOCS / "statements.md").write_text(page())
    with_marks = DOCS / "how-many-passes.md"
    with_marks.write_text(with_tables(with_marks.read_text()))
