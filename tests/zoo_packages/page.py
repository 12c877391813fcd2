"""The section on other packages of docs/what-is-live.md, made from docs/data/zoo.json."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

__all__ = ["section"]

TABLE = Path(__file__).parents[2] / "docs" / "data" / "zoo.json"
_NEITHER = ("not built", "too slow", "died")
# Sentences for the reasons that the record of a run gives, by what they contain.
_REASONS = {
    "autograd.Function": "an autograd.Function without setup_context",
    "fills the memory": "one pass fills the memory set aside for it",
    "dynamic shape": "a number of rows that depends on values",
    "data-dependent": "a branch on a value",
    ".item()": "a branch on a value",
    "data pointer": "values read as Python numbers",
    "recurrent layer": "dropped-out weights of a recurrent layer",
}


def section() -> list[str]:
    """Return the lines of the section."""
    table: dict[str, Any] = json.loads(TABLE.read_text())
    rows = table["rows"]
    compared = [row for row in rows if row["outcome"] not in _NEITHER]
    ratios = [row["ratio"] for row in compared if "ratio" in row]
    versions = ", ".join(f"{name} {version}" for name, version in table["versions"].items())
    lines = [
        "",
        "## Other packages, compared with train mode",
        "",
        "`make zoo` builds small models of other packages, runs them in train mode with BatchNorm",
        "frozen, and compares the spread (the root of the summed variances of all outputs) and the",
        f"mean of the passes. Last run {table['date']} on {table['hardware']}, Python",
        f"{table['python']}, {versions}. Every model is a line of `docs/data/zoo.json`.",
        "",
        "| package | compared | agree | all at once | no dropout | not built or too slow |",
        "|---|---|---|---|---|---|",
    ]
    for package in dict.fromkeys(row["package"] for row in rows):
        own = [row for row in rows if row["package"] == package]
        count = Counter(row["outcome"] for row in own)
        at_once = sum(row.get("strategy") == "vectorized" for row in own)
        n_compared = sum(row in compared for row in own) - count["no dropout"]
        n_out = sum(count[outcome] for outcome in _NEITHER)
        lines.append(
            f"| {package} | {n_compared} | {count['agrees']} | {at_once} | "
            f"{count['no dropout']} | {n_out} |"
        )
    lines += [
        "",
        f"The ratio of the spreads has the median {statistics.median(ratios):.3f}, and lies",
        f"between {min(ratios):.2f} and {max(ratios):.2f} in {len(ratios)} models; agreement means",
        "within four standard errors plus 0.02 of 1. "
        f"{len(table['not_run'])} models were not run in the time given.",
        "",
        *_counted(compared),
        *_exceptions(compared),
        *_sequential(compared),
    ]
    return lines


def _counted(compared: list[dict[str, Any]]) -> list[str]:
    """Say where the number of sites is not that of the random operators of train mode."""
    other = [
        row for row in compared if "draws" in row and row.get("sites") not in (None, row["draws"])
    ]
    if not other:
        return []
    more = [row["name"].split("/")[-1] for row in other if row["sites"] > row["draws"]]
    fewer = [row["name"].split("/")[-1] for row in other if row["sites"] < row["draws"]]
    return [
        f"In {len(other)} models the number of sites differs from that of the random operators",
        "which train mode adds. More sites, because fused attention draws inside one operator that",
        "is not counted, or because a call of dropout inside a listed module is listed as well:",
        f"{', '.join(more)}. Fewer, because what training draws there is no dropout (jittered",
        "coordinates and router inputs, Gumbel noise) and stays off, as `prediction.run.watched`",
        f"says: {', '.join(fewer)}.",
        "",
    ]


def _exceptions(compared: list[dict[str, Any]]) -> list[str]:
    found = [row for row in compared if row["outcome"] not in ("agrees", "no dropout")]
    if not found:
        return ["No model that was compared is an exception.", ""]
    lines = ["Exceptions:", "", "| model | outcome | why |", "|---|---|---|"]
    for row in found:
        why = row.get("reason", "").replace("|", "/")[:160]
        lines.append(f"| {row['package']} {row['name']} | {row['outcome']} | {why} |")
    return [*lines, ""]


def _sequential(compared: list[dict[str, Any]]) -> list[str]:
    found: dict[str, list[str]] = {}
    for row in compared:
        if row.get("strategy") == "sequential":
            text = row.get("reason", "")
            reason = next((told for key, told in _REASONS.items() if key in text), text[:90])
            found.setdefault(reason, []).append(row["name"].split("/")[-1])
    lines = ["Passes run one by one, and why:", "", "| why | models |", "|---|---|"]
    for reason, names in sorted(found.items(), key=lambda item: -len(item[1])):
        lines.append(f"| {reason} | {', '.join(names)} |")
    return lines
