"""The report as plain numbers, strings, lists and dicts."""

from __future__ import annotations

import io
import math
from csv import writer
from dataclasses import asdict
from typing import Any

from mcdrop import __version__
from mcdrop.report.figures import FIGURES
from mcdrop.report.measures import MEASURES
from mcdrop.report.values import Check, Repair, ReportContents, RowTable

__all__ = ["SCHEMA", "csv", "record", "versions"]

SCHEMA = "mcdrop.calibration_report/2"


def record(report: ReportContents) -> dict[str, Any]:
    """Return everything in the report, every number finite or null with a reason."""
    return {
        "schema": SCHEMA,
        "title": report.title,
        "task": report.task,
        "n_rows": report.n_rows,
        "decision": report.decision,
        "headline": report.headline,
        "actions": list(report.actions),
        "answers": [asdict(answer) for answer in report.answers],
        "findings": list(report.findings),
        "remarks": list(report.remarks),
        "bootstrap": asdict(report.resampling),
        "verdicts": {key: asdict(verdict) for key, verdict in report.verdicts.items()},
        "measures": {
            key: {"label": m.label, "unit": m.unit, "better": m.better}
            for key, m in MEASURES.items()
            if any(key in report.notes[method] for method in report.methods)
        },
        "acceptance": [_check(check) for check in report.acceptance],
        "accepted": report.accepted,
        "slices": [asdict(one) for one in report.slices],
        "rows": [_rows(table) for table in report.rows],
        "shift": None if report.shift is None else asdict(report.shift),
        "repairs": [_repair(repair) for repair in report.repairs],
        "methods": [_method(report, method) for method in report.methods],
        "figures": {name: _figure(report, name) for name in report.curves},
        "monte_carlo_error": report.monte_carlo_error,
        "versions": versions(),
        "command": report.command,
        "run": None if report.run is None else report.run.to_dict(),
    }


def _method(report: ReportContents, method: str) -> dict[str, Any]:
    """Return the numbers of one method, with its differences to the main one."""
    estimates = report.estimates(method)
    metrics: dict[str, Any] = {}
    for key, note in report.notes[method].items():
        if key in estimates:
            metrics[key] = asdict(estimates[key]) | ({"note": note} if note else {})
        else:
            metrics[key] = {"value": None, "reason": note}
    main = method == report.name
    entry = {"name": method, "role": "main" if main else "baseline", "metrics": metrics}
    if not main:
        entry["main_minus_this"] = {
            key: asdict(d) | {"main_is": report.outcomes[method][key]}
            for key, d in report.differences[method].items()
        }
    return entry


def csv(report: ReportContents) -> str:
    """Return every number of the tables of scores and differences, one a line."""
    lines: list[tuple[str, ...]] = [
        ("method", "metric", "kind", "value", "low", "high", "level", "rows")
    ]
    for method in report.methods:
        for kind, estimates in (
            ("score", report.estimates(method)),
            (f"{report.name} minus this", report.differences.get(method, {})),
        ):
            lines += [
                (method, key, kind, *(repr(v) for v in (e.value, e.low, e.high, e.level)), str(e.n))
                for key, e in estimates.items()
            ]
    buffer = io.StringIO()
    writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def versions() -> dict[str, str]:
    """Return the versions that the numbers depend on."""
    import sys

    import numpy as np
    import torch

    return {
        "mcdrop": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
    }


def _rows(table: RowTable) -> dict[str, Any]:
    """Return rows to look at, without their pictures."""
    columns, rows = list(table.columns), [list(row) for row in table.rows]
    return {"title": table.title, "by": table.by, "columns": columns, "rows": rows}


def _check(check: Check) -> dict[str, Any]:
    """Return a criterion; a bound that is none is null."""
    bounds = {
        end: value if math.isfinite(value) else None
        for end, value in (("low", check.low), ("high", check.high))
    }
    return asdict(check) | bounds


def _repair(repair: Repair) -> dict[str, Any]:
    """Return what one recalibration would bring."""
    return {
        "method": repair.method,
        "metrics": {key: asdict(e) for key, e in repair.metrics.items()},
        "after_minus_before": {key: asdict(e) for key, e in repair.differences.items()},
    }


def _figure(report: ReportContents, name: str) -> dict[str, Any]:
    """Return the points of a figure with its axes."""
    caption, curves = FIGURES[name], report.curves[name]
    display = caption.display(curves[0])
    points = [
        {
            field: list(value) if isinstance(value, tuple) else value
            for field, value in vars(curve).items()
        }
        for curve in curves
    ]
    return {
        "title": caption.title,
        "x": display.x_label,
        "y": display.y_label,
        "curves": points,
    }
