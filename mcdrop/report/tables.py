"""The tables of a report as text cells, shared by the page and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase

from mcdrop.report.measures import MEASURES, Measure, signed, verdict, written
from mcdrop.report.report import CalibrationReport

__all__ = ["Cell", "Row", "Table", "difference_table", "score_table"]

# Shape and word, never colour alone.
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
        value: "0.12", or "missing".
        interval: "[0.10, 0.15]", with the unit of a difference; empty if missing.
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


def score_table(report: CalibrationReport) -> Table:
    """Return one row per metric, one column per method."""
    present = [
        note
        for method in report.methods
        for key, note in report.notes[method].items()
        if note and key in report.estimates(method)
    ]
    letters = dict(zip(dict.fromkeys(present), ascii_lowercase, strict=False))
    rows = [
        Row(MEASURES[key], tuple(_score(report, m, key, letters) for m in report.methods))
        for key in report.notes[report.name]
    ]
    return Table(report.methods, tuple(rows), {letter: note for note, letter in letters.items()})


def difference_table(report: CalibrationReport) -> Table:
    """Return one row per metric that some baseline shares, one column per baseline."""
    baselines = tuple(report.baseline_metrics)
    rows = [
        Row(MEASURES[key], tuple(_difference(report, baseline, key) for baseline in baselines))
        for key in report.notes[report.name]
        if any(key in differences for differences in report.differences.values())
    ]
    return Table(baselines, tuple(rows), {})


def _score(report: CalibrationReport, method: str, key: str, letters: Mapping[str, str]) -> Cell:
    note = report.notes[method][key]
    estimate = report.estimates(method).get(key)
    if estimate is None:
        return Cell(method, "missing", "", note, "", "missing")
    value, interval = written(key, estimate).rsplit(" [", 1)
    return Cell(method, value, f"[{interval}", "", letters.get(note, ""), "number")


def _difference(report: CalibrationReport, baseline: str, key: str) -> Cell:
    difference = report.differences[baseline].get(key)
    if difference is None:
        return Cell(baseline, "missing", "", "needs the score of both", "", "missing")
    outcome = verdict(key, difference)
    value, interval = signed(key, difference).rsplit(" [", 1)
    points = " points" if MEASURES[key].unit == "share" else ""
    return Cell(baseline, value, f"[{interval}{points}", _MARKS[outcome], "", outcome)
