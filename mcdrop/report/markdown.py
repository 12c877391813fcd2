"""The report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mcdrop.report.tables import (
    Cell,
    Lines,
    Row,
    Table,
    acceptance_lines,
    difference_table,
    repair_lines,
    row_lines,
    score_table,
    shared_level,
    shift_lines,
    slice_lines,
    verdict_lines,
)
from mcdrop.report.values import ReportContents

__all__ = ["markdown"]


def markdown(report: ReportContents) -> str:
    """Return title, headline, findings and tables."""
    level = f"{report.resampling.level * 100:g} %"
    lines = [f"# {_plain(report.title)}", ""]
    lines += [f"**Act on these predictions? {_plain(report.decision)}.**", ""]
    lines += [_plain(report.headline), ""]
    if report.actions:
        lines += ["What to do:", "", *(f"- {_plain(action)}" for action in report.actions), ""]
    lines += ["| | | |", "| --- | --- | --- |"]
    for answer in report.answers:
        cells = (answer.question, answer.word, f"{answer.number}. {answer.text}".lstrip(". "))
        lines.append(f"| {' | '.join(_plain(cell) for cell in cells)} |")
    lines += ["", "## Findings", ""]
    lines += [f"- {_plain(finding)}" for finding in report.findings]
    lines += ["", f"## Scores on {report.n_rows} rows, with {level} intervals", ""]
    lines += _table(score_table(report))
    if report.baseline_metrics:
        lines += ["", f"## {_plain(report.name)} minus baseline, same rows", ""]
        lines += _table(difference_table(report))
    for title, table in _more(report):
        lines += ["", f"## {title}", "", _plain(table.caption), "", *_lines(table)]
    if report.verdicts:
        lines += ["", "## What was tested", "", *_verdict_table(report)]
    if report.remarks:
        lines += ["", *(f"- {_plain(remark)}" for remark in report.remarks)]
    return "\n".join(lines) + "\n"


def _more(report: ReportContents) -> Iterator[tuple[str, Lines]]:
    """Yield the tables that only some reports have."""
    if report.acceptance:
        yield "Acceptance", acceptance_lines(report)
    if report.repairs:
        yield "Before and after recalibration", repair_lines(report)
    if report.slices:
        yield "Parts of the rows", slice_lines(report)
    if report.shift is not None:
        yield "A second data set", shift_lines(report.shift)
    for table in report.rows:
        yield f"Rows to look at: {table.title.lower()}", row_lines(table)


def _lines(table: Lines) -> list[str]:
    """Return a table of plain text."""
    rows = [table.head, ["---"] * len(table.head), *table.lines]
    return [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows]


def _table(table: Table) -> list[str]:
    """Return a table with its notes below."""
    header = ["Metric", *(_plain(method) for method in table.methods)]
    lines = [header, ["---"] * len(header)]
    lines += [[_labeled(row), *(_written(cell) for cell in row.cells)] for row in table.rows]
    notes = [f"({letter}) {_plain(note)}" for letter, note in table.notes.items()]
    below = ["", "; ".join(notes) + "."] if notes else []
    return [*(f"| {' | '.join(line)} |" for line in lines), *below]


def _verdict_table(report: ReportContents) -> list[str]:
    """Return every tested hypothesis with its p-values, and how they were judged."""
    lines = ["| Null hypothesis | p | adjusted p | |", "| --- | --- | --- | --- |"]
    for verdict in verdict_lines(report):
        null = _plain(verdict.null)
        lines.append(f"| {null} | {verdict.p_value} | {verdict.adjusted} | {verdict.said} |")
    return [*lines, "", _plain(shared_level(report))]


def _labeled(row: Row) -> str:
    return f"{row.measure.label} ({row.detail})" if row.detail else row.measure.label


def _written(cell: Cell) -> str:
    """Return value, interval, footnote and remark of a cell."""
    if cell.kind == "missing":
        return f"missing: {_plain(cell.remark)}"
    footnote = f"({cell.footnote})" if cell.footnote else ""
    parts = (cell.value, cell.interval, footnote, cell.remark)
    return " ".join(part for part in parts if part)


def _plain(text: str) -> str:
    """Return `text` on one line with nothing that Markdown would read as markup or a cell."""
    # An underscore inside a word, as in noise_std, is no emphasis.
    return re.sub(r"([\\`*<>|#]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
