"""The page docs/published-results.md, written from the records in docs/data and `page.md`."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from studies.tables import section

from uci.catalog import METHODS
from uci.data import SETS
from uci.published import MEASURES, reference
from uci.tables import comparison_table, number, rows, signed, spread, standard_error

__all__ = ["page", "write_page"]

_DOCS = Path(__file__).parents[2] / "docs"
Scores = dict[str, dict[str, Any]]
NAMES = {"rmse": "RMSE", "log_likelihood": "log-likelihood"}
STEPS = ("tuned_one_layer", "tuned_two_layers", "tuned_heads", "tuned")
OTHERS = ("ridge", "bayesian_ridge", "gaussian_process", "l2_network", "deep_ensemble")


def record(name: str) -> dict[str, Any]:
    """Return a record of docs/data."""
    content: dict[str, Any] = json.loads((_DOCS / "data" / name).read_text())
    return content


def write_page() -> Path:
    """Write the page, and return its path."""
    path = _DOCS / "published-results.md"
    path.write_text(page())
    return path


def page() -> str:
    """Return the whole page."""
    summary, splits = record("uci_regression.json"), record("uci_regression_splits.json")
    gap = record("uci_gap_splits.json")
    template = Path(__file__).with_name("page.md").read_text()
    return template.format(
        reproduced=comparison_table(summary["sets"]),
        closeness=closeness(summary["sets"]),
        cost=cost(splits),
        past_likelihood=past(splits, "log_likelihood"),
        past_rmse=past(splits, "rmse"),
        verdict=verdict(splits),
        ablation=ablation(splits),
        learned=learned(splits),
        others_likelihood=others(splits, "log_likelihood"),
        others_rmse=others(splits, "rmse"),
        losses=losses(splits),
        behind=behind(splits),
        gap=gap_table(gap),
        gap_verdict=gap_verdict(gap),
        studies=section(),
    )


def closeness(sets: dict[str, Any]) -> str:
    """Say how far the reproduction is from the published means."""
    distances = [
        abs(each["difference"]) / standard_error(reference(name, "table1", measure).per_split)
        for name, measures in sets.items()
        for measure, each in measures.items()
    ]
    within = sum(d <= 2 for d in distances)
    return (
        f"{within} of the {len(distances)} means lie within 2 standard errors of the published "
        f"one, the farthest {max(distances):.1f} standard errors from it"
    )


def cost(splits: dict[str, Scores]) -> str:
    """Say how much processor time the reproduction took."""
    seconds = {name: methods["mc_dropout"]["cpu_seconds"] for name, methods in splits.items()}
    quick = sum(seconds[name] for name in SETS[:5])
    return (
        f"{sum(seconds.values()) / 60:.1f} minutes of processor time for {len(seconds)} sets, "
        f"{quick / 60:.1f} for the five of `--quick`"
    )


def having(splits: dict[str, Scores], *wanted: str) -> dict[str, Scores]:
    """Return the sets on which methods were run."""
    return {name: found for name, found in splits.items() if found.keys() >= {*wanted}}


def past(splits: dict[str, Scores], measure: str) -> str:
    """Return published columns beside ours, and the paired difference to the tuned one."""
    columns = ["table1", "strong_baselines_2018", "deep_ensembles_2017"]
    head = ["set", "dropout 2016", "tuned 2018", "Deep Ensembles 2017"]
    if measure == "log_likelihood":
        columns.append("depth_uncertainty_dropout_2020")
        head.append("dropout 2020")
    body = []
    for name, methods in having(splits, "tuned").items():
        ours, published = methods["tuned"][measure], [reference(name, c, measure) for c in columns]
        gain = np.subtract(ours, _splits(name, measure))
        body.append(
            [
                name,
                *[number(each.mean) for each in published],
                spread(ours),
                signed(gain),
            ]
        )
    return rows([*head, "ours", "ours - tuned 2018"], body)


def verdict(splits: dict[str, Scores]) -> str:
    """Count on how many sets ours is ahead."""
    found = having(splits, "tuned")
    parts = []
    for measure, sign in (("log_likelihood", 1), ("rmse", -1)):
        gains = [
            sign * np.subtract(m["tuned"][measure], _splits(name, measure))
            for name, m in found.items()
        ]
        ahead = sum(gain.mean() > 0 for gain in gains)
        clearly = sum(gain.mean() > 2 * standard_error(gain) for gain in gains)
        parts.append(
            f"In {NAMES[measure]} it is ahead of the tuned column of 2018 on {ahead} of "
            f"{len(gains)} sets, by more than 2 paired standard errors on {clearly}."
        )
    for column, text in (
        ("deep_ensembles_2017", "Deep Ensembles"),
        ("depth_uncertainty_dropout_2020", "the dropout of Antorán et al. (2020)"),
    ):
        ahead = sum(
            np.mean(m["tuned"]["log_likelihood"]) >= _mean(name, column, "log_likelihood")
            for name, m in found.items()
        )
        parts.append(f"It is level with or ahead of {text} in log-likelihood on {ahead}.")
    return " ".join(parts)


def _splits(name: str, measure: str) -> Any:
    return reference(name, "strong_baselines_2018", measure).per_split


def _mean(name: str, column: str, measure: str) -> float:
    found = reference(name, column, measure).mean
    return float("nan") if found is None else found


def ablation(splits: dict[str, Scores]) -> str:
    """Return what every ingredient adds to the log-likelihood, paired by split."""
    body = []
    for name, methods in having(splits, "tuned").items():
        chain = [_published(name), *[methods[step]["log_likelihood"] for step in STEPS]]
        gains = [np.subtract(after, before) for before, after in pairwise(chain)]
        body.append([name, *[signed(gain) for gain in gains]])
    ingredients = ["choice per split", "second hidden layer", "predicted noise", "three networks"]
    return rows(["set", *ingredients], body)


def learned(splits: dict[str, Scores]) -> str:
    """Return what two more ingredients add to two hidden layers, paired by split."""
    tried = {"concrete": "rates learned", "second_moment": "spread trained"}
    body = []
    for name, methods in having(splits, *tried).items():
        chosen = methods["tuned_two_layers"]
        body.append(
            [name]
            + [
                signed(np.subtract(methods[method][measure], chosen[measure]))
                for measure in ("log_likelihood", "rmse")
                for method in tried
            ]
        )
    titles = [f"{each}, {what}" for what in ("log-likelihood", "RMSE") for each in tried.values()]
    return rows(["set", *titles], body)


def _published(name: str) -> Any:
    return reference(name, "table1", "log_likelihood").per_split


def others(splits: dict[str, Scores], measure: str) -> str:
    """Return all methods on the same splits."""
    order = ["mc_dropout", "dropout_off", *OTHERS, "tuned"]
    present = [m for m in order if any(m in methods for methods in splits.values())]
    body = [
        [name, *[spread(methods[m][measure]) if m in methods else "" for m in present]]
        for name, methods in splits.items()
        if any(m in methods for m in OTHERS)
    ]
    return rows(["set", *[METHODS[m].title for m in present]], body)


def losses(splits: dict[str, Scores]) -> str:
    """List where another method is ahead of MC dropout by more than 2 paired standard errors."""
    lines = []
    for ours in ("mc_dropout", "tuned"):
        for measure in MEASURES:
            sign = 1 if measure == "log_likelihood" else -1
            found = []
            for name, methods in having(splits, ours).items():
                for other in ("dropout_off", *OTHERS):
                    if other not in methods:
                        continue
                    lead = sign * np.subtract(methods[other][measure], methods[ours][measure])
                    if lead.mean() > 2 * standard_error(lead):
                        found.append(f"{name} to {METHODS[other].title} ({spread(lead)})")
            text = "; ".join(found) or "nowhere, among the methods and sets that were run"
            lines.append(f"- {METHODS[ours].title}, {NAMES[measure]}: {text}.")
    return "\n".join(lines)


def behind(splits: dict[str, Scores]) -> str:
    """List where ours, chosen per split, is behind a published column."""
    columns = {
        "strong_baselines_2018": "the tuned column of 2018",
        "deep_ensembles_2017": "Deep Ensembles",
        "depth_uncertainty_dropout_2020": "the dropout of Antorán et al. (2020)",
    }
    lines = []
    for column, text in columns.items():
        found = [
            f"{name} in {NAMES[measure]} ({number(ours)} against {number(theirs)})"
            for name, methods in having(splits, "tuned").items()
            for measure, sign in (("rmse", -1), ("log_likelihood", 1))
            for ours in [float(np.mean(methods["tuned"][measure]))]
            for theirs in [_mean(name, column, measure)]
            if sign * ours < sign * theirs
        ]
        lines.append(f"- {text}: {'; '.join(found) or 'nowhere'}.")
    return "\n".join(lines)


GAP_COLUMNS = ("mc_dropout", "tuned_gap", "deep_ensemble", "ridge", "bayesian_ridge")


def gap_table(splits: dict[str, Scores]) -> str:
    """Return the log-likelihood on gap splits."""
    head = ["set", "published dropout", "published ensemble", "recipe of 2016"]
    head += ["chosen on gaps", "deep ensemble", "ridge", "Bayesian ridge"]
    body = []
    for name, methods in splits.items():
        published = [
            number(reference(name, column, "log_likelihood").mean)
            for column in ("gap_dropout", "gap_ensemble")
        ]
        cells = [spread(methods[m]["log_likelihood"]) if m in methods else "" for m in GAP_COLUMNS]
        body.append([name, *published, *cells])
    return rows(head, body)


def gap_verdict(splits: dict[str, Scores]) -> str:
    """Count on how many gap sets ours is ahead, of those with a published value."""
    parts = []
    for column, text in (("gap_dropout", "published dropout"), ("gap_ensemble", "the ensemble")):
        known = {
            name: np.mean(methods["tuned_gap"]["log_likelihood"])
            > _mean(name, column, "log_likelihood")
            for name, methods in having(splits, "tuned_gap").items()
            if reference(name, column, "log_likelihood").mean is not None
        }
        behind = [name for name, ahead in known.items() if not ahead]
        tail = f", behind it on {', '.join(behind)}" if behind else ""
        parts.append(f"ahead of {text} on {sum(known.values())} of {len(known)} sets{tail}")
    run_here = {"mc_dropout": "the recipe of 2016", "deep_ensemble": "the deep ensemble"}
    for method, text in run_here.items():
        leads = {
            name: np.subtract(each["tuned_gap"]["log_likelihood"], each[method]["log_likelihood"])
            for name, each in having(splits, "tuned_gap", method).items()
        }
        behind = [
            f"{name} ({signed(lead)}; RMSE {spread(splits[name]['tuned_gap']['rmse'])} against "
            f"{spread(splits[name][method]['rmse'])})"
            for name, lead in leads.items()
            if lead.mean() <= 0
        ]
        tail = f", behind it on {' and '.join(behind)}" if behind else ""
        parts.append(
            f"ahead of {text}, run here, on {len(leads) - len(behind)} of {len(leads)}{tail}"
        )
    return "; ".join(parts)
