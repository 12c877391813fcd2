"""The tables of a report as text cells, shared by the page and Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase

from mcdrop.report.measures import MEASURES, Measure, decimals, signed, written
from mcdrop.report.values import Check, ReportContents, RowTable, Shift

__all__ = [
    "Cell",
    "Lines",
    "Row",
    "Table",
    "VerdictLine",
    "acceptance_lines",
    "difference_table",
    "repair_lines",
    "row_lines",
    "score_table",
    "shared_level",
    "shift_lines",
    "slice_lines",
    "verdict_lines",
]

# A shape and a word, so that color is not needed to read them.
_MARKS = {
    "better": "▲ better",
    "worse": "▼ worse",
    "undecided": "○ undecided",
    "descriptive": "",
}


@dataclass(frozen=True)
class Cell:
    """One number with its interval.

    Attributes:
        method: Name of its column.
        value: "0.12", "identical" or "missing".
        interval: "[0.10, 0.15]", with the unit of a difference; else empty.
        remark: The verdict of a difference, or why a number is missing.
        footnote: Letter of the note on how it came about, or empty.
        kind: "number", "missing", or the verdict of a difference.
    """

    method: str
    value: str
    interval: str
    remark: str
    footnote: str
    kind: str


@dataclass(frozen=True)
class Row:
    """One metric with a cell per method."""

    measure: Measure
    cells: tuple[Cell, ...]

    @property
    def detail(self) -> str:
        """Unit and direction, such as "nats, lower is better"."""
        unit = "" if self.measure.unit == "share" else self.measure.unit
        better = "" if self.measure.better == "neither" else f"{self.measure.better} is better"
        return ", ".join(part for part in (unit, better) if part)


@dataclass(frozen=True)
class Table:
    """Rows of cells under the names of methods, with notes by letter."""

    methods: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: Mapping[str, str]


def score_table(report: ReportContents) -> Table:
    """Return one row per metric, one column per method."""
    present = [
        note
        for method in report.methods
        for key, note in report.notes[method].items()
        if note and key in report.estimates(method)
    ]
    letters = dict(zip(dict.fromkeys(present), ascii_lowercase, strict=False))
    rows = [_score_row(report, key, letters) for key in report.notes[report.name]]
    return Table(report.methods, tuple(rows), {letter: note for note, letter in letters.items()})


def difference_table(report: ReportContents) -> Table:
    """Return one row per metric that some baseline shares, one column per baseline."""
    rows = [
        _difference_row(report, key)
        for key in report.notes[report.name]
        if any(key in differences for differences in report.differences.values())
    ]
    return Table(tuple(report.baseline_metrics), tuple(rows), {})


def _score_row(report: ReportContents, key: str, letters: Mapping[str, str]) -> Row:
    """Return one metric of every method, all with the same decimals."""
    by_method = {method: report.estimates(method).get(key) for method in report.methods}
    digits = decimals(key, filter(None, by_method.values()))
    cells = []
    for method, estimate in by_method.items():
        note = report.notes[method][key]
        if estimate is None:
            cells.append(Cell(method, "missing", "", note, "", "missing"))
            continue
        value, interval = written(key, estimate, digits).split(" [")
        cells.append(Cell(method, value, f"[{interval}", "", letters.get(note, ""), "number"))
    return Row(MEASURES[key], tuple(cells))


def _difference_row(report: ReportContents, key: str) -> Row:
    """Return the differences of one metric to every baseline, all with the same decimals."""
    by_baseline = {b: differences.get(key) for b, differences in report.differences.items()}
    digits = decimals(key, filter(None, by_baseline.values()))
    cells = []
    for baseline, difference in by_baseline.items():
        if difference is None:
            cells.append(Cell(baseline, "missing", "", "needs the score of both", "", "missing"))
            continue
        outcome = report.outcomes[baseline][key]
        if outcome == "identical":
            cells.append(Cell(baseline, outcome, "", "", "", outcome))
            continue
        value, interval = signed(key, difference, digits).split(" [")
        cells.append(Cell(baseline, value, f"[{interval}", _MARKS[outcome], "", outcome))
    return Row(MEASURES[key], tuple(cells))


@dataclass(frozen=True)
class Lines:
    """A table of plain text, with its head and which columns hold numbers.

    Attributes:
        head: Names of the columns; the first column names its row.
        lines: Cells of each row.
        flags: Rows to mark, by their index.
        caption: What the table shows.
    """

    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    caption: str
    flags: frozenset[int] = frozenset()


_OUTCOMES = {"pass": "▲ pass", "fail": "▼ fail", "undecided": "○ undecided"}


def acceptance_lines(report: ReportContents) -> Lines:
    """Return every acceptance criterion with its outcome."""
    lines = []
    for check in report.acceptance:
        e = check.estimate
        found = f"missing: {check.reason}" if e is None else written(check.metric, e)
        label = MEASURES[check.metric].label
        lines.append((label, _bounds(check), found, _OUTCOMES[check.outcome]))
    number, level = len(report.acceptance), 100 * report.resampling.level
    caption = (
        "A criterion passes if its interval lies within what is acceptable, and fails if it lies "
        f"outside. The {number} intervals hold together with {level:g} % probability (Bonferroni)."
    )
    flags = frozenset(i for i, c in enumerate(report.acceptance) if c.outcome != "pass")
    return Lines(("Criterion", "Acceptable", "Found", "Outcome"), tuple(lines), caption, flags)


def _bounds(check: Check) -> str:
    """Write what is acceptable: "85 % to 95 %" or "at least 0.7"."""
    share = MEASURES[check.metric].unit == "share"
    low, high = (f"{100 * b:g} %" if share else f"{b:g}" for b in (check.low, check.high))
    if not math.isfinite(check.low):
        return f"at most {high}"
    return f"at least {low}" if not math.isfinite(check.high) else f"{low} to {high}"


def repair_lines(report: ReportContents) -> Lines:
    """Return every metric before and after each recalibration."""
    keys = [k for k in report.metrics if any(k in r.metrics for r in report.repairs)]
    lines = []
    for key in keys:
        after = [repair.metrics.get(key) for repair in report.repairs]
        shown = [report.metrics[key], *(e for e in after if e is not None)]
        digits = decimals(key, shown)
        cells = ("missing" if e is None else written(key, e, digits) for e in after)
        measure = MEASURES[key]
        unit = "" if measure.unit in ("share", "") else f" ({measure.unit})"
        lines.append((f"{measure.label}{unit}", written(key, report.metrics[key], digits), *cells))
    head = ("Metric", "As it is", *(repair.method for repair in report.repairs))
    caption = (
        "What each recalibration of mcdrop.recalibration would bring. The rows are split into five "
        "parts; each part is scored after a fit on the other four."
    )
    return Lines(head, tuple(lines), caption)


def slice_lines(report: ReportContents) -> Lines:
    """Return every slice; those that are off are flagged."""
    lines, flags = [], []
    for i, s in enumerate(report.slices):
        if s.flagged:
            flags.append(i)
        said = (
            "described only" if s.p_value is None else "▼ off" if s.flagged else "○ not shown off"
        )
        adjusted = "none" if s.adjusted is None else _probability(s.adjusted)
        observed = written("coverage_90", s.observed)
        lines.append((f"{s.group}: {s.label}", str(s.n), observed, f"{100 * s.stated:.1f} %",
                      adjusted, said))  # fmt: skip
    regression = report.task == "regression"
    what = "coverage of 90 % intervals" if regression else "accuracy"
    caption = (
        f"The {what} in parts of the rows, against what is stated. A part is off if equality is "
        "rejected, at the level that all verdicts of the page share. Parts by the target are "
        "described, not tested: there a calibrated prediction is off too."
    )
    head = (
        "Part",
        "Rows",
        "Coverage" if regression else "Accuracy",
        "Stated",
        "adjusted p",
        "Verdict",
    )
    return Lines(head, tuple(lines), caption, frozenset(flags))


def row_lines(table: RowTable) -> Lines:
    """Return the rows to look at, numbers with three digits."""
    lines = tuple(
        tuple(cell if isinstance(cell, str) else f"{cell:.3g}" for cell in row)
        for row in table.rows
    )
    return Lines(table.columns, lines, f"{table.title}: {table.by}, first {len(lines)}.")


def shift_lines(shift: Shift) -> Lines:
    """Return how the uncertainty of a second data set compares."""
    lines = (
        ("Mean uncertainty, test rows", f"{shift.mean_here:.3g}"),
        (f"Mean uncertainty, {shift.name} ({shift.n} rows)", f"{shift.mean_there:.3g}"),
        ("AUROC: less sure than a test row", written("auroc_error", shift.auroc)),
        ("Share less sure than 95 % of test rows", written("coverage_90", shift.above)),
    )
    caption = (
        f"Is {shift.name} stated as less certain? An AUROC of 0.5 and a share of 5 % are what rows "
        "like the test rows would have."
    )
    return Lines(("Quantity", "Value"), lines, caption)


@dataclass(frozen=True)
class VerdictLine:
    """One tested hypothesis, as text."""

    null: str
    p_value: str
    adjusted: str
    said: str


def verdict_lines(report: ReportContents) -> list[VerdictLine]:
    """Return every tested hypothesis in the order of its finding."""
    return [
        VerdictLine(
            null=f"{verdict.null[0].upper()}{verdict.null[1:]}",
            p_value=_probability(verdict.p_value),
            adjusted=_probability(verdict.adjusted),
            said="rejected" if verdict.rejected else "not rejected",
        )
        for verdict in report.verdicts.values()
    ]


def shared_level(report: ReportContents) -> str:
    """Say what the verdicts guarantee together."""
    level = 100 * (1 - report.resampling.level)
    return (
        "p: chance of a deviation at least this large if the null hypothesis holds. All "
        f"{len(report.verdicts)} verdicts share the {level:.3g} % level (p adjusted by Holm): if "
        f"every hypothesis holds, at most {level:.3g} % of such pages reject one, however few the "
        "rows. So an interval can exclude 0 where the verdict is undecided."
    )


def _probability(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"
