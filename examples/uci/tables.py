"""Summaries of all results in a folder, and their Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from uci.catalog import METHODS
from uci.data import SETS
from uci.published import MEASURES
from uci.records import Record, summary
from uci.running import Options, settings_of

__all__ = [
    "collected", "comparison_table", "number", "per_split", "rows", "signed", "spread",
    "standard_error", "with_error",
]  # fmt: skip


def collected(options: Options) -> tuple[dict[str, Any], str]:
    """Return the summary of every method with results, and its tables.

    The published recipe is at the top level, `{"sets": ...}`; one such object for every
    other method is under "methods".
    """
    content: dict[str, Any] = {"sets": {}, "methods": {}}
    parts = []
    for method, entry in METHODS.items():
        records = _records(options, method)
        if not records:
            continue
        found = summary(records, "gap_dropout" if options.kind == "gap" else entry.column)
        if method == "mc_dropout":
            content["sets"] = found["sets"]
        else:
            content["methods"][method] = found
        parts.append(f"## {entry.title}\n\n{comparison_table(found['sets'])}\n")
    return content, "\n".join(parts)


def per_split(options: Options) -> dict[str, Any]:
    """Return what every method scored on every split, by set and method."""
    content: dict[str, Any] = {}
    for method in METHODS:
        for name, record in _records(options, method).items():
            content.setdefault(name, {})[method] = {
                **{m: [round(v, 6) for v in record.values(m)] for m in MEASURES},
                "chosen": [_rounded(each) for each in record.chosen],
                "cpu_seconds": record.cpu_seconds,
                "n_samples": record.settings["n_samples"],
            }
    return content


def _rounded(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in chosen.items()}


def _records(options: Options, method: str) -> dict[str, Record]:
    """Return the records of a method by set, as far as there are any."""
    settings = settings_of(options, method)
    found = {name: options.store.read(name, method, settings) for name in SETS}
    return {name: record for name, record in found.items() if record is not None}


def comparison_table(sets: Mapping[str, Any]) -> str:
    """Return ours, published, difference and its paired standard error for both measures."""
    lines = [
        "| set | RMSE | published | difference | log-likelihood | published | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, measures in sets.items():
        cells = [name]
        for each in (measures["rmse"], measures["log_likelihood"]):
            difference = with_error(each["difference"], each["paired_se"], sign=True)
            cells += [number(each["ours"]), number(each["published"]), difference]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Return a number with as many decimals as tell splits apart; nothing for None."""
    if value is None:
        return ""
    digits = 5 if abs(value) < 0.02 else 4 if abs(value) < 0.2 else 3
    return f"{value:.{digits}f}"


def with_error(value: float | None, error: float | None, *, sign: bool = False) -> str:
    """Return a number with its standard error, which has two digits that count."""
    if value is None or error is None or not error > 0:
        return number(value)
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:{'+' if sign else ''}.{digits}f} ± {error:.{digits}f}"


def standard_error(values: Any) -> float:
    """Return the standard error of the mean."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def spread(values: Any) -> str:
    """Return mean and standard error."""
    return with_error(float(np.mean(values)), standard_error(values))


def signed(gain: Any) -> str:
    """Return mean and standard error of paired differences."""
    return with_error(float(np.mean(gain)), standard_error(gain), sign=True)


def rows(head: list[str], body: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
