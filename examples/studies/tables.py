"""The section on images, a forecast and text of docs/published-results.md, from its records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t
from uci.tables import rows, signed, spread

__all__ = ["section"]

_DATA = Path(__file__).parents[2] / "docs" / "data"
Scores = Mapping[str, Any]
Seeds = Sequence[float]


def section() -> str:
    """Return the section, with its tables and what they show beyond noise."""
    digits, co2, text = (_record(name) for name in ("digits", "co2_forecast", "sentences"))
    template = Path(__file__).with_name("page.md").read_text()
    return template.format(
        n_seeds=len(_seeds(digits, "no dropout", "NLL", "clean")),
        digits_minutes=_minutes(digits),
        digits_table=_digits_table(digits),
        digits_findings=_findings(_shown_columns(digits), _DIGITS),
        digits_ablation=_ablation(digits),
        digits_steps=_steps(digits),
        co2_minutes=_minutes(co2),
        co2_far=_far(co2["extrapolation"]["held"]),
        co2_table=_co2_table(co2["forecasts"]["held"]),
        co2_findings=_co2_findings(co2["forecasts"]["held"]),
        text_minutes=_minutes(text),
        text_scipy=text["versions"]["scipy"],
        text_size=min(text["settings"]["train"]),
        text_table=_text_table(text["scores"]),
        text_findings=_findings(_text_columns(text["scores"]), _TEXT),
    )


def _record(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_DATA / f"{name}.json").read_text())
    return content


def _minutes(record: Scores) -> str:
    n = round(record["cpu_seconds"] / 60)
    return f"{n} minutes" if n > 1 else "one minute"


# What a column holds, and whether more of it is better.
_DIGITS = {
    "accuracy": True, "NLL": False, "ECE": False, "corrupted accuracy": True,
    "corrupted NLL": False, "corrupted ECE": False, "AUROC by entropy": True,
    "errors with half referred": False,
}  # fmt: skip
_TEXT = {
    "accuracy": True, "NLL": False, "ECE": False, "AURC": False,
    "AUROC of Python's reference": True, "AUROC of licenses": True,
}  # fmt: skip
Columns = dict[str, dict[str, Seeds]]


def _seeds(record: Scores, method: str, score: str, name: str) -> Seeds:
    found: Seeds = record["scores"][method][score][name]
    return found


def _digits_columns(record: Scores) -> Columns:
    """Return the scores of each method, one number per seed; corrupted ones are means of 15."""

    def columns(method: str) -> dict[str, Seeds]:
        found: dict[str, Seeds] = {}
        for score, values in record["scores"][method].items():
            if score in ("accuracy", "NLL", "ECE"):
                found[score] = values["clean"]
                bad = [v for k, v in values.items() if k != "clean"]
                found[f"corrupted {score}"] = np.mean(bad, axis=0).tolist()
        found["AUROC by entropy"] = _seeds(record, method, "AUROC", "entropy")
        information = record["scores"][method]["AUROC"].get("mutual information")
        if information:
            found["AUROC by mutual information"] = information
        found["errors with half referred"] = _seeds(record, method, "referral", "0.5")
        return found

    return {method: columns(method) for method in record["scores"]}


_SHOWN = {
    "batch repetition, MC": "MC dropout",
    "batch repetition, off": "dropout off",
    "no dropout": "no dropout",
    "deep ensemble": "deep ensemble",
}


def _shown_columns(record: Scores) -> Columns:
    """Return the methods that are compared, by their names for a reader."""
    columns = _digits_columns(record)
    return {title: columns[method] for method, title in _SHOWN.items()}


def _digits_table(record: Scores) -> str:
    names = [*_DIGITS]
    names.insert(names.index("AUROC by entropy") + 1, "AUROC by mutual information")
    return _by_method(_shown_columns(record), names)


def _by_method(columns: Columns, names: Sequence[str]) -> str:
    """Return a table with a column for each method, and a row for each score."""
    body = [
        [name, *[spread(found[name]) if name in found else "" for found in columns.values()]]
        for name in names
    ]
    return rows(["", *columns], body)


def _findings(columns: Columns, better: Mapping[str, bool]) -> str:
    """List where MC dropout is ahead of and behind each other method, beyond noise."""
    lines, ours = [], columns["MC dropout"]
    for other, scores in columns.items():
        if other == "MC dropout":
            continue
        ahead: list[str] = []
        behind: list[str] = []
        level: list[str] = []
        for name, more in better.items():
            gain = np.subtract(ours[name], scores[name])
            sign = 1 if more else -1
            if _beyond_noise(gain):
                (ahead if sign * gain.mean() > 0 else behind).append(f"{name} ({signed(gain)})")
            else:
                level.append(name)
        parts = [f"ahead in {', '.join(ahead)}"] if ahead else []
        parts += [f"behind in {', '.join(behind)}"] if behind else []
        parts += [f"within noise in {', '.join(level)}"] if level else []
        lines.append(f"- {other}: {'; '.join(parts)}.")
    return "\n".join(lines)


def _beyond_noise(gain: Any) -> bool:
    """Whether the 95 % interval of a mean difference over seeds excludes 0."""
    n = len(gain)
    error = np.std(gain, ddof=1) / n**0.5
    return bool(abs(np.mean(gain)) > t.ppf(0.975, n - 1) * error)


def _ablation(record: Scores) -> str:
    """Return what the passes change in each recipe, paired with dropout off."""
    columns = _digits_columns(record)
    names = ["NLL", "corrupted NLL", "corrupted ECE", "AUROC by entropy"]
    body = []
    for recipe in record["settings"]["recipes"]:
        on, off = columns[f"{recipe}, MC"], columns[f"{recipe}, off"]
        body.append(
            [
                recipe,
                *[spread(on[name]) for name in names[:2]],
                *[_marked(np.subtract(on[name], off[name])) for name in names],
            ]
        )
    head = ["dropout", *names[:2], *[f"{name}, passes - off" for name in names]]
    return rows(head, body)


def _marked(gain: Any) -> str:
    """Return a paired difference, in bold where it is beyond noise."""
    text = signed(gain)
    return f"**{text}**" if _beyond_noise(gain) else text


def _steps(record: Scores) -> str:
    """Say what each step of the recipes changed in the corrupted log-likelihood of MC dropout."""
    columns = _digits_columns(record)
    recipes = list(record["settings"]["recipes"])
    pairs = [*zip(recipes[1:4], recipes[:3], strict=True), (recipes[4], recipes[2]),
             (recipes[3], recipes[4])]  # fmt: skip
    parts = []
    for after, before in pairs:
        a, b = (columns[f"{r}, MC"]["corrupted NLL"] for r in (after, before))
        parts.append(f"{after} instead of {before} {_marked(np.subtract(a, b))}")
    return ", ".join(parts)


def _far(held: Mapping[str, Seeds]) -> str:
    parts = []
    for name, shares in held.items():
        text = spread(np.multiply(100, shares)) if len(shares) > 1 else f"{100 * shares[0]:.0f}"
        parts.append(f"{name} {text} %")
    return ", ".join(parts)


def _co2_table(held: Mapping[str, Mapping[str, Seeds]]) -> str:
    """Return what the bands hold, in percent, and how wide they are."""

    def cell(values: Seeds, key: str) -> str:
        if key.endswith("width"):
            return spread(values)
        # A share of all or none has no standard error to print.
        return spread(np.multiply(100, values)) if np.ptp(values) else f"{100 * values[0]:.0f}"

    keys = ["pointwise, months", "pointwise, years", "pointwise, width", "pathwise, years",
            "pathwise, width", "stretched, years", "stretched, width"]  # fmt: skip
    body = [[name, *[cell(found[key], key) for key in keys]] for name, found in held.items()]
    return rows(["method", *keys], body)


def _co2_findings(held: Mapping[str, Mapping[str, Seeds]]) -> str:
    """Say what the path-wise band adds, and whom MC dropout is ahead of, paired by year."""
    ours = held["MC dropout"]

    def more(a: Seeds, b: Seeds) -> str:
        return f"{_marked(np.multiply(100, np.subtract(a, b)))} percentage points"

    lines = [
        "- path-wise instead of pointwise band: "
        f"{more(ours['pathwise, years'], ours['pointwise, years'])} of the years"
    ]
    for name, other in held.items():
        if name != "MC dropout":
            years = more(ours["pathwise, years"], other["pathwise, years"])
            width = _marked(np.subtract(ours["pathwise, width"], other["pathwise, width"]))
            lines.append(
                f"- instead of {name}, path-wise: {years} of the years, {width} ppm of width"
            )
    return "\n".join(f"{line};" for line in lines)[:-1] + "."


def _text_columns(scores: Scores) -> Columns:
    """Return the scores of each method, one number per seed."""
    found: Columns = {}
    for method, each in scores.items():
        found[method] = {name: each[name] for name in ("accuracy", "NLL", "ECE", "AURC")}
        for kind in ("Python's reference", "licenses"):
            found[method][f"AUROC of {kind}"] = each[f"{kind}, entropy"]
            if f"{kind}, mutual information" in each:
                found[method][f"{kind}, mutual information"] = each[f"{kind}, mutual information"]
    return found


def _text_table(scores: Scores) -> str:
    information = [f"{kind}, mutual information" for kind in ("Python's reference", "licenses")]
    return _by_method(_text_columns(scores), [*_TEXT, *information])
