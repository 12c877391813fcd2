"""The report as one self-contained page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any

from mcdrop.checks import require_installed
from mcdrop.report.drawing import draw, svg
from mcdrop.report.figures import FIGURES
from mcdrop.report.measures import MEASURES
from mcdrop.report.pictures import figure_sentence, strip
from mcdrop.report.record import csv, record, versions
from mcdrop.report.tables import (
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
from mcdrop.report.thumbnails import data_uri
from mcdrop.report.values import ReportContents, RowTable

__all__ = ["encoded", "fragment", "page"]

# A shape for each grade, so that color is not needed to read it.
_ICONS = {"yes": "▲", "no": "▼", "undecided": "○", "missing": "□"}


def page(report: ReportContents, *, date: str | None = None) -> str:
    """Return a complete HTML document: no request to anywhere, and readable without its script."""
    return _rendered(report, whole=True, date=date)


def fragment(report: ReportContents) -> str:
    """Return the content of the page, styled, to be put into another one."""
    return _rendered(report, whole=False, date=None)


def _rendered(report: ReportContents, *, whole: bool, date: str | None) -> str:
    """Fill the template; everything but the drawings and the style sheet is escaped."""
    for module in ("jinja2", "matplotlib"):
        require_installed("CalibrationReport.to_html", module, "report")
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    files = resources.files("mcdrop.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["typeset"] = typeset
    template = environment.from_string(files.joinpath("template.html").read_text("utf-8"))
    return template.render(
        report=report,
        whole=whole,
        date=date,
        # Safe: files of the package, drawings whose text matplotlib has escaped, plain numbers.
        style=Markup(files.joinpath("style.css").read_text("utf-8")),  # noqa: S704
        script=Markup(files.joinpath("script.js").read_text("utf-8")),  # noqa: S704
        strip=lambda answer, mark: Markup(strip(answer, mark)),  # noqa: S704
        figures=[
            (name, FIGURES[name], figure_sentence(name, report.curves[name]), Markup(drawing))  # noqa: S704
            for name, drawing in _drawings(report).items()
        ],
        tone=_tone(report),
        icons=_ICONS,
        # Two reports may stand in one notebook.
        prefix="" if whole else f"report-{_digest(report)}-",
        sections=_sections(report),
        downloads=_downloads(report),
        acceptance=acceptance_lines(report) if report.acceptance else None,
        repaired=repair_lines(report) if report.repairs else None,
        slices=slice_lines(report) if report.slices else None,
        shift=None if report.shift is None else shift_lines(report.shift),
        rows=[(row_lines(table), _addresses(table)) for table in report.rows],
        level=f"{report.resampling.level * 100:g} %",
        scores=score_table(report),
        differences=difference_table(report),
        verdicts=verdict_lines(report),
        shared_level=shared_level(report),
        glossary={
            MEASURES[key].family or MEASURES[key].label: MEASURES[key].meaning
            for key in report.notes[report.name]
        },
        facts=_facts(report),
        sites=() if report.run is None else report.run.sites,
    )


def typeset(text: str) -> str:
    """Return text with real minus signs and percent signs that stay with their number."""
    text = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)


def encoded(text: str) -> bytes:
    """Return text in UTF-8; names of files that are not Unicode are written as escapes."""
    return text.encode(errors="backslashreplace")


def _drawings(report: ReportContents) -> dict[str, str]:
    """Return every figure as SVG; ids differ between figures and between reports."""
    digest = _digest(report)
    return {
        name: svg(draw(name, curves, report.methods), f"{name}-{digest}")
        for name, curves in report.curves.items()
    }


def _digest(report: ReportContents) -> str:
    """Return letters that tell this report from others on the same page."""
    identity = f"{report.title}\0{report.methods}\0{report.metrics}"
    return hashlib.sha256(encoded(identity)).hexdigest()[:8]


def _tone(report: ReportContents) -> str:
    """Return the grade of the decision, for its color."""
    grades = [answer.grade for answer in report.answers]
    if report.decision.startswith("Yes"):
        return "yes"
    return "no" if grades[0] in ("no", "missing") or grades[2] == "no" else "undecided"


def _sections(report: ReportContents) -> dict[str, str]:
    """Return the headings of the page by their anchors, in order."""
    wanted = {
        "findings": ("Findings", True),
        "acceptance": ("Acceptance", bool(report.acceptance)),
        "scores": ("Scores", True),
        "comparison": (
            f"{report.name} compared on the same rows",
            any(report.differences.values()),
        ),
        "figures": ("Figures", bool(report.curves)),
        "recalibration": ("Before and after recalibration", bool(report.repairs)),
        "parts": ("Parts of the rows", bool(report.slices)),
        "shift": ("A second data set", report.shift is not None),
        "rows": ("Rows to look at", True),
        "tested": ("What was tested", bool(report.verdicts)),
        "made": ("How this was made", True),
        "glossary": ("What the metrics mean", True),
    }
    return {anchor: heading for anchor, (heading, there) in wanted.items() if there}


def _addresses(table: RowTable) -> dict[str, list[str]]:
    """Return the pictures of each row by what they show, as addresses that hold them whole."""
    return {name: [data_uri(image) for image in images] for name, images in table.pictures.items()}


def _downloads(report: ReportContents) -> dict[str, str]:
    """Return files that the page carries, as addresses that hold them whole."""
    numbers = json.dumps(record(report), allow_nan=False, ensure_ascii=False)
    files = {"report.json": ("application/json", numbers), "report.csv": ("text/csv", csv(report))}
    return {
        name: f"data:{kind};base64,{base64.b64encode(encoded(text)).decode()}"
        for name, (kind, text) in files.items()
    }


def _facts(report: ReportContents) -> dict[str, str]:
    """Return passes, strategy, cost and intervals, as label and text."""
    run, resampling = report.run, report.resampling
    facts: dict[str, Any] = {}
    if run is not None:
        kind = f"{'stratified, ' if run.stratified else ''}{run.masks} masks"
        facts["Stochastic passes"] = f"{run.n_samples} per row, {kind}, seed {run.seed}"
        facts["Strategy"] = f"{run.strategy}. {run.reason}"
        if report.monte_carlo_error is not None:
            what = "units of y" if report.task == "regression" else "class probabilities"
            facts["Monte Carlo error"] = (
                f"{report.monte_carlo_error:.2g} ({what}, root mean square)"
            )
        batch = "all rows at once" if run.batch_size is None else f"{run.batch_size} rows at a time"
        facts["Computed"] = (
            f"in {run.seconds:.3g} seconds on {run.device} in {run.dtype}, {batch}, "
            f"{run.sample_chunk} passes together"
        )
    else:
        facts["Prediction"] = "computed without stochastic passes"
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in versions().items())
    if report.command:
        facts["Command"] = report.command
    facts["Intervals"] = (
        f"{resampling.level * 100:g} %. Shares: exact binomial. ECE: by the largest effect of "
        "sampling noise. Means: t, adjusted for skewness. Others: bootstrap over rows, "
        f"{resampling.n_resamples} resamples, seed {resampling.seed}"
    )
    return facts
