"""What the numbers say, in sentences a decision maker can act on: the parts all tasks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mcdrop.metrics import Estimate
from mcdrop.report.measures import MEASURES, Resampling, Score, magnitude, signed, verdict

__all__ = [
    "Evidence",
    "against_baselines",
    "comparison",
    "epistemic_share",
    "plain",
    "rank_correlation",
]

Differences: TypeAlias = Mapping[str, Estimate]

_PHRASES = {
    "better": "better than",
    "worse": "worse than",
    "undecided": "not clearly different from",
}


@dataclass(frozen=True)
class Evidence:
    """The estimates that findings are drawn from.

    Attributes:
        name: Name of the main method.
        metrics: Its estimates.
        differences: Main minus baseline, by baseline and metric.
        resampling: How intervals are made.
    """

    name: str
    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Differences]
    resampling: Resampling


def against_baselines(evidence: Evidence) -> list[str]:
    """One sentence or two per baseline: the proper score first, then the plain error."""
    sentences = []
    for baseline, differences in evidence.differences.items():
        wanted = (_leading(differences), "rmse", "accuracy")
        keys = dict.fromkeys(key for key in wanted if key and key in differences)
        clear = [key for key in keys if verdict(key, differences[key]) != "undecided"]
        rest = [key for key in keys if key not in clear]
        parts = [_clear(differences, clear)] if clear else []
        parts += [_undecided(differences, rest)] if rest else []
        sentences.append(f"{evidence.name} against {baseline}: {'; '.join(parts)}.")
    return sentences


def _clear(differences: Differences, keys: list[str]) -> str:
    """Say by how much the main method is better or worse."""
    parts = []
    for key in keys:
        difference = differences[key]
        direction = "lower" if difference.value < 0 else "higher"
        label = _inside(MEASURES[key].label)
        outcome = verdict(key, difference)
        parts.append(f"{label} {direction} ({outcome}) by {magnitude(key, difference)}")
    ends = "the interval excludes 0" if len(parts) == 1 else "the intervals exclude 0"
    return f"{' and '.join(parts)}, {ends}"


def _undecided(differences: Differences, keys: list[str]) -> str:
    """Say which scores the rows cannot tell apart."""
    parts = [f"{_inside(MEASURES[key].label)} {signed(key, differences[key])}" for key in keys]
    ends = "the interval includes 0" if len(parts) == 1 else "the intervals include 0"
    return f"undecided by {' and '.join(parts)}, {ends}"


def _inside(label: str) -> str:
    """Return a label as it stands inside a sentence: abbreviations keep their capitals."""
    return label if label.isupper() else label[0].lower() + label[1:]


def _leading(differences: Differences) -> str | None:
    """Return the proper score to judge by: the first that both methods have."""
    return next((key for key in ("nll", "crps", "brier") if key in differences), None)


def comparison(evidence: Evidence) -> str:
    """Return the second half of the headline: the verdict against each baseline."""
    outcomes: dict[str, dict[str, list[str]]] = {}
    for baseline, differences in evidence.differences.items():
        key = _leading(differences)
        if key is not None:
            by_outcome = outcomes.setdefault(MEASURES[key].label, {})
            by_outcome.setdefault(verdict(key, differences[key]), []).append(baseline)
    sentences = []
    for label, by_outcome in outcomes.items():
        phrases = [
            f"{phrase} {' and '.join(by_outcome[outcome])}"
            for outcome, phrase in _PHRASES.items()
            if outcome in by_outcome
        ]
        sentences.append(f". By {_inside(label)}, {evidence.name} is {' and '.join(phrases)}")
    return "".join(sentences)


def rank_correlation(a: Tensor, b: Tensor, resampling: Resampling) -> Estimate:
    """Spearman correlation; ranks are taken once, so that resamples are cheap."""
    from scipy.stats import rankdata

    ranks = (torch.from_numpy(rankdata(values.numpy())) for values in (a, b))
    return resampling.estimate(Score(_correlation, tuple(ranks)))


def _correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation; 0 where one side is constant, as it can be in a resample."""
    a, b = a - a.mean(), b - b.mean()
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return ((a * b).sum() / scale).item() if scale > 0 else 0.0


def plain(correlation: Estimate) -> str:
    """Write a correlation with its interval."""
    return f"{correlation.value:.2f} [{correlation.low:.2f}, {correlation.high:.2f}]"


def epistemic_share(part: Tensor, whole: Tensor, what: str) -> str:
    """Say how much of the uncertainty more training data could remove."""
    share = 100 * (part.sum() / whole.sum()).item()
    return (
        f"{share:.0f} % of the {what} is epistemic, which more training data could reduce; "
        "the rest is stated as noise in the data."
    )
