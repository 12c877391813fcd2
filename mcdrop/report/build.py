"""From a prediction, targets and baselines to a calibration report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mcdrop.displays._classification import Classification
from mcdrop.displays._matching import matched_classification, matched_regression, require_comparable
from mcdrop.displays._regression import Regression
from mcdrop.metrics import Estimate
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.base import Prediction
from mcdrop.report.answers import FirstScreen
from mcdrop.report.answers_classification import classification_first_screen
from mcdrop.report.answers_regression import regression_first_screen
from mcdrop.report.classification import classification_scores
from mcdrop.report.figures import figure_curves
from mcdrop.report.findings import Evidence
from mcdrop.report.findings_classification import classification_findings
from mcdrop.report.findings_regression import regression_findings
from mcdrop.report.hypotheses import Hypothesis, comparison_key, comparisons, verdicts
from mcdrop.report.hypotheses_classification import classification_hypotheses
from mcdrop.report.hypotheses_regression import regression_hypotheses
from mcdrop.report.measures import NamedScores, Outcome, Resampling, Score, identical, outcome
from mcdrop.report.regression import regression_scores
from mcdrop.report.repairs import repairs
from mcdrop.report.report import CalibrationReport
from mcdrop.report.values import Verdict

__all__ = ["calibration_report"]

T = TypeVar("T", Regression, Classification)


def calibration_report(
    prediction: Prediction,
    y: Any,
    *,
    baselines: Mapping[str, Prediction] | None = None,
    title: str = "Calibration report",
    name: str = "MC dropout",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> CalibrationReport:
    """Compare a prediction's stated uncertainty with its errors, and with baselines.

    Every number has an interval over rows; differences are paired, so that what makes a row hard
    for both methods cancels. Every verdict is a test, and all verdicts of one report share the
    level 1 - `level` (Holm): for calibrated predictions the chance of any false one is at most
    that, for any number of rows. A number that cannot be had from a prediction is reported as
    missing, with what it would take.

    Args:
        prediction: RegressionPrediction or ClassificationPrediction for N rows.
        y: Targets of these rows with the shape of the predictive mean, or labels (N,).
        baselines: Predictions of the same type for the same rows, by name.
        title: Heading of the report.
        name: Name of the main method in tables and figures.
        level: Coverage of all intervals, in (0, 1); verdicts share the level 1 - `level`.
        n_resamples: Bootstrap resamples.
        seed: Seed of the resamples; the same seed gives the same report.

    Returns:
        The report: numbers and findings at once, figures and pages when asked for.

    Raises:
        ShapeError: If `y` or a baseline does not have the rows of `prediction`.
        UnsupportedError: If `prediction` is of another type, or a baseline differs in type.
        NonFiniteError: If targets or predictions hold NaN or infinity.
        RangeError: If a label is no class index, or a baseline has the name of the main method.

    Example:
        >>> import torch
        >>> y = torch.linspace(-2, 2, 100)
        >>> wide = RegressionPrediction(
        ...     mean=torch.zeros(100), epistemic_variance=torch.zeros(100),
        ...     aleatoric_variance=torch.full((100,), 9.0), mcse=torch.zeros(100),
        ...     n_samples=0, family="normal")
        >>> report = calibration_report(wide, y, name="Guess", n_resamples=200)
        >>> report.headline
        '90 % intervals are too wide.'
        >>> round(report.metrics["rmse"].value, 2), report.metrics["coverage_90"].value
        (1.17, 1.0)
    """
    others = dict(baselines or {})
    require_comparable(prediction, others, name)
    resampling = Resampling(level, n_resamples, seed)
    predictions: dict[str, Any] = {name: prediction, **others}
    parts: dict[str, Any]
    if isinstance(prediction, RegressionPrediction):
        regressions = matched_regression(predictions, y, resampling)
        parts = _parts(regressions, _REGRESSION, resampling)
        parts |= {"task": "regression", "remarks": _remarks(regressions[name])}
    else:
        labeled = matched_classification(predictions, y, resampling)
        parts = _parts(labeled, _CLASSIFICATION, resampling)
        parts |= {"task": "classification", "remarks": ()}
    return CalibrationReport(
        title=title,
        name=name,
        n_rows=len(prediction),
        resampling=resampling,
        run=prediction.run,
        monte_carlo_error=_monte_carlo_error(prediction),
        **parts,
    )


@dataclass(frozen=True)
class _Task(Generic[T]):
    """The functions that are specific to one task."""

    scores: Callable[[T], NamedScores]
    hypotheses: Callable[[T, int], dict[str, Hypothesis]]
    findings: Callable[[T, Evidence], tuple[str, tuple[str, ...]]]
    first_screen: Callable[[T, Evidence], FirstScreen]


_REGRESSION = _Task(
    regression_scores, regression_hypotheses, regression_findings, regression_first_screen
)
_CLASSIFICATION = _Task(
    classification_scores,
    classification_hypotheses,
    classification_findings,
    classification_first_screen,
)


def _parts(methods: Mapping[str, T], task: _Task[T], resampling: Resampling) -> dict[str, Any]:
    """Estimate, compare and judge: the parts of a report that every task has."""
    scores = {name: task.scores(method) for name, method in methods.items()}
    estimates = {name: resampling.estimates(score) for name, score in scores.items()}
    main, *others = methods
    differences = {b: resampling.differences(scores[main], scores[b]) for b in others}
    judged = verdicts(
        task.hypotheses(methods[main], resampling.seed) | comparisons(scores, resampling.seed),
        1 - resampling.level,
    )
    outcomes = {b: _outcomes(scores[main], scores[b], differences[b], judged, b) for b in others}
    evidence = Evidence(
        name=main,
        n_rows=len(methods[main].y),
        metrics=estimates[main],
        differences=differences,
        outcomes=outcomes,
        verdicts=judged,
        resampling=resampling,
        repairs=repairs(methods[main], resampling),
    )
    headline, findings = task.findings(methods[main], evidence)
    first_screen = task.first_screen(methods[main], evidence)
    return {
        "decision": first_screen.decision,
        "headline": headline,
        "actions": first_screen.actions,
        "answers": first_screen.answers,
        "repairs": evidence.repairs,
        "findings": findings,
        "metrics": estimates[main],
        "baseline_metrics": {b: estimates[b] for b in others},
        "differences": differences,
        "outcomes": outcomes,
        "verdicts": judged,
        "notes": {n: {key: s.note for key, s in score.items()} for n, score in scores.items()},
        "curves": figure_curves(methods),
    }


def _outcomes(
    main: NamedScores,
    other: NamedScores,
    differences: Mapping[str, Estimate],
    judged: Mapping[str, Verdict],
    baseline: str,
) -> dict[str, Outcome]:
    """Say of every difference whether the main method is better, worse or identical."""
    found: dict[str, Outcome] = {}
    for key, difference in differences.items():
        a, b, name = main[key], other[key], comparison_key(key, baseline)
        if isinstance(a, Score) and isinstance(b, Score) and identical(a, b):
            found[key] = "identical"
        else:
            found[key] = outcome(key, difference, name in judged and judged[name].rejected)
    return found


def _remarks(r: Regression) -> tuple[str, ...]:
    """Return the caveats that apply to all numbers of a regression."""
    remarks = []
    n_outputs = r.y.shape[1]
    if n_outputs > 1:
        remarks.append(
            f"Every score is averaged over the {n_outputs} outputs of a row without scaling them: "
            "outputs in large units weigh more. Figures pool the outputs; intervals count rows."
        )
    if r.has_spread and r.prediction.family == "mixture" and not r.has_noise:
        remarks.append(
            "No observation noise was given. Intervals, CRPS and PIT describe the mean function, "
            "not single targets, which scatter more: predict with noise_std=."
        )
    if not r.has_spread:
        remarks.append("A point forecast has no intervals, so there is nothing to draw for it.")
    return tuple(remarks)


def _monte_carlo_error(prediction: Prediction) -> float | None:
    """Return the root mean squared Monte Carlo standard error, if there were passes."""
    if not isinstance(prediction, RegressionPrediction | ClassificationPrediction):
        return None
    if prediction.n_samples < 2:
        return None
    return prediction.mcse.double().square().mean().sqrt().item()
