"""Published figures, read from `published.json`: settings, and scores per split where known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["MEASURES", "Reference", "Tuned", "reference", "tuned"]

_PATH = Path(__file__).with_name("published.json")
MEASURES = ("rmse", "log_likelihood")


@dataclass(frozen=True)
class Tuned:
    """Published settings of one set.

    Attributes:
        rate: Dropout rate p.
        precision: tau, in units of 1 / y^2.
        length_scale: Prior length scale l.
        n_hidden: Hidden units.
        epochs: Passes over the rows behind Table 1, in batches of 32.
    """

    rate: float
    precision: float
    length_scale: float
    n_hidden: int
    epochs: int


@dataclass(frozen=True)
class Reference:
    """A published score.

    Attributes:
        mean: Over splits; None where nothing was published.
        per_split: Of each split, in order; None where only the mean was printed.
    """

    mean: float | None
    per_split: tuple[float, ...] | None


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_PATH.read_text())
    return content


def tuned(name: str) -> Tuned:
    """Return the published settings of a set."""
    found = _content()[name]
    return Tuned(
        found["p"],
        found["tau"],
        found["length_scale"],
        found["n_hidden"],
        found["table1"]["epochs"],
    )


def reference(name: str, column: str, measure: str) -> Reference:
    """Return the published score of a set.

    Args:
        name: Of the set.
        column: "table1", "ten_times_epochs", "two_layers", "strong_baselines_2018",
            "deep_ensembles_2017", "pbp_2015" or "depth_uncertainty_dropout_2020" (the dropout row
            of Antorán et al. 2020); for gap splits "gap_dropout" or "gap_ensemble".
        measure: "rmse" or "log_likelihood".
    """
    found = _content()[name].get(column, {}).get(measure)
    if isinstance(found, dict):
        return Reference(found["mean"], tuple(found["per_split"]))
    return Reference(found, None)
