"""What the numbers say, in sentences a decision maker can act on: the parts all tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mcdrop.displays._curve import Float64
from mcdrop.metrics import Estimate
from mcdrop.report.hypotheses import rows_for_correlation
from mcdrop.report.measures import MEASURES, Outcome, Resampling, Score, magnitude, signed, written
from mcdrop.report.values import Repair, Slice, Verdict

__all__ = [
    "VISIBLE_GAP",
    "Evidence",
    "Finding",
    "against_baselines",
    "comparison_actions",
    "epistemic_share",
    "joined",
    "leading",
    "plain",
    "rank_correlation",
    "slice_findings",
    "told",
    "too_few_rows_to_rank",
    "worst_slice",
]

Differences: TypeAlias = Mapping[str, Estimate]

# Gap of a share that a test set should be able to show: 5 percentage points.
VISIBLE_GAP = 0.05
# Rank correlation that a test set should be able to show.
_VISIBLE_CORRELATION = 0.2
# Severity of an uncertainty that ranks nothing: less than any fault of probabilities that shows.
_NO_LINK = 0.01


@dataclass(frozen=True)
class Evidence:
    """What findings are drawn from.

    Attributes:
        name: Name of the main method.
        n_rows: Rows that were compared.
        metrics: Estimates of the main method.
        differences: Main minus baseline, by baseline and metric.
        outcomes: What each difference says about the main method.
        verdicts: Every tested hypothesis of the page.
        resampling: How intervals are made.
        repairs: What each recalibration would bring.
        slices: Parts of the rows, those that are off being flagged.
    """

    name: str
    n_rows: int
    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Differences]
    outcomes: Mapping[str, Mapping[str, Outcome]]
    verdicts: Mapping[str, Verdict]
    resampling: Resampling
    repairs: tuple[Repair, ...] = ()
    slices: tuple[Slice, ...] = ()

    @property
    def level(self) -> float:
        """Level of one verdict where all of the page share 1 - `resampling.level` equally."""
        return (1 - self.resampling.level) / max(1, len(self.verdicts))

    def rejects(self, key: str) -> bool:
        """Whether the page rejects a hypothesis; one that was not tested is not rejected."""
        return key in self.verdicts and self.verdicts[key].rejected


@dataclass(frozen=True)
class Finding:
    """A sentence on the page.

    Attributes:
        text: The sentence, or two.
        headline: Its short form, for the top of the page.
        severity: Probability in the wrong place, in [0, 1]: 0.1 if what is stated with 90 % comes
            true with 80 %. 0 if nothing is wrong.
    """

    text: str
    headline: str = ""
    severity: float = 0.0


def told(findings: Sequence[Finding], evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """Return the headline and all findings, what is wrong first, the worst of it at the top."""
    ordered = sorted(findings, key=lambda finding: -finding.severity)
    state = next(finding.headline for finding in ordered if finding.headline)
    return f"{state}{_comparison(evidence)}.", tuple(finding.text for finding in ordered)


def against_baselines(evidence: Evidence) -> list[Finding]:
    """One sentence per baseline: the proper score first, then the plain error."""
    findings = []
    for baseline, differences in evidence.differences.items():
        wanted = (leading(differences), "rmse", "accuracy")
        keys = dict.fromkeys(key for key in wanted if key and key in differences)
        outcomes = evidence.outcomes[baseline]
        parts = [_compared(key, differences[key], outcomes[key]) for key in keys]
        findings.append(Finding(f"{evidence.name} against {baseline}: {'; '.join(parts)}."))
    return findings


def slice_findings(evidence: Evidence) -> list[Finding]:
    """Name the part of the rows that is off most, weighed by its size."""
    worst = worst_slice(evidence)
    if worst is None:
        return []
    off = sum(one.flagged for one in evidence.slices)
    tested = sum(one.p_value is not None for one in evidence.slices)
    observed, what = worst.observed, "accuracy" if "accuracy" in evidence.metrics else "coverage"
    text = (
        f"Off in {off} of {tested} parts of the rows, most of all where the {worst.group} is "
        f"{worst.label} ({worst.n} rows): {what} {written('coverage_90', observed)}, stated "
        f"{100 * worst.stated:.1f} %."
    )
    gap = abs(observed.value - worst.stated) * worst.n / evidence.n_rows
    return [Finding(text, f"Off where the {worst.group} is {worst.label}", gap)]


def worst_slice(evidence: Evidence) -> Slice | None:
    """Return the flagged slice that holds most of the gap; None if none is flagged."""
    found = [one for one in evidence.slices if one.flagged]
    return max(found, key=lambda s: s.n * abs(s.observed.value - s.stated), default=None)


def _compared(key: str, difference: Estimate, outcome: Outcome) -> str:
    """Say by how much the main method is better or worse, or that the rows cannot tell."""
    label = _inside(MEASURES[key].label)
    if outcome == "identical":
        return f"identical by {label}"
    if outcome == "undecided":
        return f"undecided by {label} {signed(key, difference)}"
    direction = "lower" if difference.value < 0 else "higher"
    return f"{label} {direction} ({outcome}) by {magnitude(key, difference)}"


def _inside(label: str) -> str:
    """Return a label as it stands inside a sentence: abbreviations keep their capitals."""
    return label if label.isupper() else label[0].lower() + label[1:]


def leading(differences: Differences) -> str | None:
    """Return the proper score to judge by: the first that both methods have."""
    return next((key for key in ("nll", "crps", "brier") if key in differences), None)


def _comparison(evidence: Evidence) -> str:
    """Return the second half of the headline: the verdict against each baseline."""
    by_outcome = _by_outcome(evidence)
    sentences = {
        "better": "{name} beats {}",
        "worse": "{name} is beaten by {}",
        "undecided": "{name} is not shown to beat {}",
        "identical": "{name} is identical to {}",
    }
    said = [
        sentence.format(joined(by_outcome[outcome]), name=evidence.name)
        for outcome, sentence in sentences.items()
        if outcome in by_outcome
    ]
    return "".join(f". {sentence}" for sentence in said)


def _by_outcome(evidence: Evidence) -> dict[str, list[str]]:
    """Return the baselines by what their leading score says about the main method."""
    found: dict[str, list[str]] = {}
    for baseline, differences in evidence.differences.items():
        key = leading(differences)
        if key is not None:
            found.setdefault(evidence.outcomes[baseline][key], []).append(baseline)
    return found


def comparison_actions(evidence: Evidence) -> list[str]:
    """Say which method to use where the comparison decides it."""
    by_outcome = _by_outcome(evidence)
    if "worse" in by_outcome:
        return [f"Use {joined(by_outcome['worse'], 'or')} instead: it predicts these rows better."]
    same = by_outcome.get("undecided", []) + by_outcome.get("identical", [])
    if same:
        # More rows would not tell methods apart whose losses are equal in each.
        open_ended = "undecided" in by_outcome
        reason = " until more rows decide" if open_ended else ", as their losses agree"
        return [f"Prefer the simpler of {joined([evidence.name, *same])}{reason}."]
    return []


def joined(names: Sequence[str], word: str = "and") -> str:
    """Return "A, B and C"."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def rank_correlation(a: Float64, b: Float64, resampling: Resampling) -> Estimate:
    """Spearman correlation; ranks are taken once, so that resamples are cheap."""
    from scipy.stats import rankdata

    ranks = (torch.from_numpy(rankdata(values)) for values in (a, b))
    return resampling.estimate(Score(_correlation, tuple(ranks)))


def _correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation; 0 where one side is constant, as it can be in a resample."""
    a, b = a - a.mean(), b - b.mean()
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return ((a * b).sum() / scale).item() if scale > 0 else 0.0


def plain(correlation: Estimate) -> str:
    """Write a correlation with its interval."""
    return f"Spearman {correlation.value:.2f} [{correlation.low:.2f}, {correlation.high:.2f}]"


def too_few_rows_to_rank(what: str, correlation: Estimate, evidence: Evidence) -> Finding:
    """Say that a rank correlation is not seen, and whether the rows could have shown one."""
    needed = rows_for_correlation(_VISIBLE_CORRELATION, evidence.level)
    if evidence.n_rows >= needed:
        return Finding(
            f"No clear link between {what}: {plain(correlation)}, where {needed} rows would show "
            f"{_VISIBLE_CORRELATION}. Do not use it to choose rows for review.",
            "The uncertainty does not find the errors",
            _NO_LINK,
        )
    return Finding(
        f"A link between {what} cannot be told from none with {evidence.n_rows} rows: "
        f"{plain(correlation)}. About {needed} rows would show a correlation of "
        f"{_VISIBLE_CORRELATION}."
    )


def epistemic_share(part: Tensor, whole: Tensor, what: str) -> Finding:
    """Say how much of the uncertainty comes from the spread of the dropout posterior.

    At a fixed rate this spread need not shrink with the training set: Osband (2016); Verdoja &
    Kyrki (2020); Le Folgoc et al. (2021).
    """
    total = whole.sum().item()
    share = 100 * part.sum().item() / total if total > 0 else 0.0
    return Finding(
        f"{share:.0f} % of the {what} is epistemic, the spread of the dropout posterior; the rest "
        "is stated as noise in the data. At a fixed dropout rate this spread need not shrink as "
        "the training set grows, so it does not say what more data would bring."
    )
