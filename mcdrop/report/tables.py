"""The tables of a report as text cells, shared by the page and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase

from mcdrop.report.measures import MEASURES, Measure, decimals, signed, written
from mcdrop.report.values import ReportContents

__all__ = [
    "Cell",
    "Row",
    "Table",
    "VerdictLine",
    "difference_table",
    "score_table",
    "shared_level",
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
