"""What the numbers of a classification say."""

from __future__ import annotations

from torch import Tensor

from mcdrop.metrics import selective_risk
from mcdrop.report.classification import Classification
from mcdrop.report.findings import (
    Evidence,
    against_baselines,
    comparison,
    epistemic_share,
    plain,
    rank_correlation,
)
from mcdrop.report.measures import Score, as_scored, signed, written

__all__ = ["classification_findings"]

_REFERRED = 0.1
# One percentage point of a class probability.
_SMALL_ERROR = 0.01


def classification_findings(c: Classification, evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """Return the headline and the findings about a classification."""
    state, sentence = _confidence_finding(c, evidence)
    findings = [sentence, _referral_finding(c, evidence), *against_baselines(evidence)]
    p = c.prediction
    if p.n_samples > 1:
        findings.append(
            epistemic_share(p.mutual_information, p.predictive_entropy, "predictive entropy")
        )
        findings.append(_monte_carlo_finding(c))
    return f"{state}{comparison(evidence)}.", tuple(findings)


def _confidence_finding(c: Classification, evidence: Evidence) -> tuple[str, str]:
    """Compare mean confidence with accuracy on the same rows."""
    right = 1 - c.wrong
    gap = evidence.resampling.estimate(Score(as_scored, (c.prediction.confidence - right,)))
    facts = (
        f"Mean confidence is {100 * c.prediction.confidence.mean().item():.1f} % and accuracy "
        f"{100 * right.mean().item():.1f} %, a gap of {signed('confidence', gap)}"
    )
    if gap.low <= 0 <= gap.high:
        return "Stated confidence agrees with accuracy", f"{facts}: on average they agree."
    if gap.value > 0:
        advice = "errors are more frequent than the stated probabilities say"
        return "Predictions are overconfident", f"{facts}: {advice}."
    advice = "errors are rarer than the stated probabilities say"
    return "Predictions are underconfident", f"{facts}: {advice}."


def _referral_finding(c: Classification, evidence: Evidence) -> str:
    """Say whether uncertain rows are the wrong ones, and what referring them would save."""
    if not bool(c.wrong.any()):
        return f"None of the {len(c.y)} rows was misclassified: nothing can be said about errors."
    entropy = c.prediction.predictive_entropy
    correlation = rank_correlation(entropy, c.wrong, evidence.resampling)
    if correlation.low <= 0:
        return (
            f"No clear link between errors and predictive entropy: Spearman {plain(correlation)}. "
            "Do not use it to choose rows for review."
        )

    def rest(uncertainty: Tensor, loss: Tensor) -> float:
        return selective_risk(uncertainty, loss=loss, coverage=1 - _REFERRED)

    left = evidence.resampling.estimate(Score(rest, (entropy, c.wrong)))
    return (
        f"Errors gather where the predictive entropy is high: Spearman {plain(correlation)}. "
        f"Referring the most uncertain 10 % of rows to a person leaves an error rate of "
        f"{written('accuracy', left)} on the rest, against {100 * c.wrong.mean().item():.1f} % "
        "on all rows."
    )


def _monte_carlo_finding(c: Classification) -> str:
    """Say whether more passes would change the probability of the predicted class."""
    p = c.prediction
    mcse = p.mcse.gather(1, p.labels.unsqueeze(1))
    error = mcse.square().mean().sqrt().item()
    advice = (
        "more passes would change little"
        if error < _SMALL_ERROR
        else "predict with more passes for steadier numbers"
    )
    return (
        f"With {p.n_samples} passes the Monte Carlo error of the confidence is {100 * error:.2g} "
        f"points: {advice}."
    )
