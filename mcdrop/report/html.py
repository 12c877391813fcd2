"""The report as one self-contained page."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Any

from mcdrop.checks import require_installed
from mcdrop.report.drawing import draw, svg
from mcdrop.report.figures import FIGURES
from mcdrop.report.measures import MEASURES
from mcdrop.report.tables import difference_table, score_table, shared_level, verdict_lines
from mcdrop.report.values import ReportContents

__all__ = ["fragment", "page"]


def page(report: ReportContents, *, date: str | None = None) -> str:
    """Return a complete HTML document: no script, no request to anywhere."""
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
        # Safe: the style sheet of the package, and drawings whose text matplotlib has escaped.
        style=Markup(files.joinpath("style.css").read_text("utf-8")),  # noqa: S704
        figures=[
            (name, FIGURES[name], Markup(drawing))  # noqa: S704
            for name, drawing in _drawings(report).items()
        ],
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


def _drawings(report: ReportContents) -> dict[str, str]:
    """Return every figure as SVG; ids differ between figures and between reports."""
    # Two reports may stand on one page, as in a notebook.
    identity = f"{report.title}\0{report.methods}\0{report.metrics}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return {
        name: svg(draw(name, curves, report.methods), f"{name}-{digest}")
        for name, curves in report.curves.items()
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
    facts["Intervals"] = (
        f"{resampling.level * 100:g} %. Shares: exact binomial. ECE: by the largest effect of "
        "sampling noise. Means: t, adjusted for skewness. Others: bootstrap over rows, "
        f"{resampling.n_resamples} resamples, seed {resampling.seed}"
    )
    return facts
