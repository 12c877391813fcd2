"""What the numbers of a classification say."""

from __future__ import annotations

import math

from mcdrop.displays._classification import Classification
from mcdrop.metrics import Estimate, selective_risk, wilson_interval
from mcdrop.report.findings import (
    VISIBLE_GAP,
    Evidence,
    Finding,
    against_baselines,
    epistemic_share,
    plain,
    rank_correlation,
    slice_findings,
    told,
    too_few_rows_to_rank,
)
from mcdrop.report.hypotheses import rows_for_share
from mcdrop.report.measures import written

__all__ = ["classification_findings", "error_of_the_rest"]

_REFERRED = 0.1
# One percentage point of a class probability.
_SMALL_ERROR = 0.01


def classification_findings(c: Classification, evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """Return the headline and the findings about a classification."""
    confidence = _confidence_finding(c, evidence)
    findings = [
        confidence,
        _reliability_finding(c, evidence, confidence.severity),
        _ranking_finding(c, evidence),
        *slice_findings(evidence),
        *against_baselines(evidence),
    ]
    p = c.prediction
    if p.n_samples > 1:
        findings.append(
            epistemic_share(p.mutual_information, p.predictive_entropy, "predictive entropy")
        )
        findings.append(_monte_carlo_finding(c))
    return told(findings, evidence)


def _confidence_finding(c: Classification, evidence: Evidence) -> Finding:
    """Compare mean confidence with accuracy on the same rows."""
    accuracy, stated = evidence.metrics["accuracy"], float(c.confidence.mean())
    gap = stated - accuracy.value
    facts = (
        f"Mean confidence is {100 * stated:.1f} % and accuracy {written('accuracy', accuracy)}, "
        f"a gap of {100 * gap:+.1f} points"
    )
    if evidence.rejects("confidence"):
        state, errors = ("over", "more frequent") if gap > 0 else ("under", "rarer")
        return Finding(
            f"{facts}: errors are {errors} than the stated probabilities say.",
            f"Predictions are {state}confident",
            abs(gap),
        )
    needed = rows_for_share(stated, VISIBLE_GAP, evidence.level)
    if evidence.n_rows >= needed:
        return Finding(
            f"{facts}: on average they agree, where {needed} rows would show a gap of 5 points.",
            "Stated confidence agrees with accuracy",
        )
    return Finding(
        f"{facts}, which cannot be told from none with {evidence.n_rows} rows; about {needed} rows "
        "would show a gap of 5 points.",
        f"Mean confidence is {100 * stated:.1f} %, accuracy {written('accuracy', accuracy)}: "
        f"{evidence.n_rows} rows cannot tell them apart",
    )


def _reliability_finding(c: Classification, evidence: Evidence, gap: float) -> Finding:
    """Compare confidence and accuracy bin by bin, and say what the ECE can show.

    Args:
        c: The classification.
        evidence: Its verdicts.
        gap: Size of the gap on average where that is a finding of its own, else 0.
    """
    null = c.error_test
    low, high = 100 * null.null_low, 100 * null.null_high
    shown = (
        f"the ECE is {100 * c.error.value:.2g} %, where a calibrated model would have "
        f"{low:.2g} to {high:.2g} % on {evidence.n_rows} rows"
    )
    if not evidence.rejects("reliability"):
        return Finding(
            f"{shown[0].upper()}{shown[1:]}: it cannot be told apart from a calibrated one."
        )
    beyond = max(0.0, c.debiased_error - gap)
    # Where the gap on average explains most of the ECE there is no second thing to say.
    if gap > 0 and beyond < gap / 2:
        return Finding(f"{shown[0].upper()}{shown[1:]}.")
    return Finding(
        f"Confidence is wrong in parts of its range: {_worst_bins(c)}; {shown}.",
        "Confidence is wrong in parts of its range, whatever the average",
        beyond,
    )


def _worst_bins(c: Classification) -> str:
    """Name the bin that claims most too much and the one that claims most too little."""
    curve = c.reliability
    used = curve.count > 0
    stated, right, count = curve.confidence[used], curve.accuracy[used], curve.count[used]
    over = count * (stated - right)
    places = dict.fromkeys((int(over.argmax()), int(over.argmin())))
    parts = [
        f"{count[i]} rows stated at {100 * stated[i]:.0f} % are right in {100 * right[i]:.0f} %"
        for i in places
    ]
    return " and ".join(parts)


def _ranking_finding(c: Classification, evidence: Evidence) -> Finding:
    """Say whether uncertain rows are the wrong ones, and what referring them would save."""
    wrong = c.wrong.numpy()
    if not wrong.any():
        text = f"None of the {len(wrong)} rows was misclassified"
        return Finding(f"{text}: nothing can be said about which rows are wrong.")
    if wrong.all():
        return Finding(f"All {len(wrong)} rows were misclassified.")
    if "ranking" not in evidence.verdicts:
        return Finding(
            "The stated uncertainty is the same for all rows, so it cannot tell hard rows apart."
        )
    entropy = c.prediction.predictive_entropy.numpy()
    correlation = rank_correlation(entropy, wrong, evidence.resampling)
    if not evidence.rejects("ranking"):
        return too_few_rows_to_rank("errors and predictive entropy", correlation, evidence)
    if correlation.value < 0:
        return Finding(
            f"Errors gather where the predictive entropy is low: {plain(correlation)}. "
            "Row by row it misleads.",
            "Errors gather where the model is most certain",
            abs(correlation.value) / 2,
        )
    left = error_of_the_rest(c, _REFERRED)
    return Finding(
        f"Errors gather where the predictive entropy is high: {plain(correlation)}. "
        f"Referring the most uncertain 10 % of rows to a person leaves an error rate of "
        f"{written('accuracy', left)} on the rest, against {100 * wrong.mean():.1f} % on all rows."
    )


def error_of_the_rest(c: Classification, referred: float) -> Estimate:
    """Return the error rate of the most certain rows, with its Wilson interval."""
    share, level = 1 - referred, c.resampling.level
    kept = share * len(c.y)
    error = selective_risk(c.prediction.predictive_entropy, loss=c.wrong, coverage=share)
    low, high = wilson_interval(error * kept, kept, level=level)
    spread = math.sqrt(error * (1 - error) / kept)
    return Estimate(error, float(low), float(high), spread, level, len(c.y), "wilson")


def _monte_carlo_finding(c: Classification) -> Finding:
    """Say whether more passes would change the probability of the predicted class."""
    p = c.prediction
    mcse = p.mcse.gather(1, p.labels.unsqueeze(1))
    error = mcse.square().mean().sqrt().item()
    advice = (
        "more passes would change little"
        if error < _SMALL_ERROR
        else "predict with more passes for steadier numbers"
    )
    return Finding(
        f"With {p.n_samples} passes the Monte Carlo error of the confidence is {100 * error:.2g} "
        f"points: {advice}."
    )
