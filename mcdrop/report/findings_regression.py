"""What the numbers of a regression say."""

from __future__ import annotations

import numpy as np

from mcdrop.report.findings import (
    Evidence,
    against_baselines,
    comparison,
    epistemic_share,
    plain,
    rank_correlation,
)
from mcdrop.report.measures import written
from mcdrop.report.regression import Regression

__all__ = ["regression_findings"]

_NOMINAL = 0.9
# Normal quantile of a central 90 % interval.
_NORMAL_90 = 1.6449
# Below this share of the stated spread, more passes would change nothing one can see.
_SMALL_ERROR = 0.05


def regression_findings(r: Regression, evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """Return the headline and the findings about a regression."""
    compared = against_baselines(evidence)
    if not r.has_spread:
        state = f"{evidence.name} states no uncertainty"
        return f"{state}{comparison(evidence)}.", (
            f"{state}: only its point errors can be judged.",
            *compared,
        )
    state, sentence = _coverage_finding(r, evidence)
    findings = [sentence, _ranking_finding(r, evidence), *compared]
    p = r.prediction
    if p.n_samples > 1 and r.has_noise:
        findings.append(epistemic_share(p.epistemic_variance, p.variance, "predictive variance"))
    if p.n_samples > 1:
        findings.append(_monte_carlo_finding(r))
    return f"{state}{comparison(evidence)}.", tuple(findings)


def _coverage_finding(r: Regression, evidence: Evidence) -> tuple[str, str]:
    """Compare the coverage of 90 % intervals with 90 %."""
    observed = evidence.metrics["coverage_90"]
    held = f"90 % intervals hold {written('coverage_90', observed)} of the targets"
    if observed.low <= _NOMINAL <= observed.high:
        return "90 % intervals hold what they state", f"{held}, which agrees with 90 %."
    state = "too narrow" if observed.high < _NOMINAL else "too wide"
    return f"90 % intervals are {state}", f"{held}: they are {state}. {_spread_advice(r)}"


def _spread_advice(r: Regression) -> str:
    """Say what would bring 90 % intervals to 90 %."""
    if r.prediction.family == "mixture" and not r.has_noise:
        return (
            "No observation noise was given, so they speak of the mean function and not of single "
            "targets: predict with noise_std=."
        )
    error, std = (r.y - r.prediction.mean).abs().numpy(), r.prediction.std.numpy()
    ratio = np.divide(error, std, out=np.full_like(error, np.inf), where=std > 0)
    factor = float(np.quantile(ratio, _NOMINAL, method="lower")) / _NORMAL_90
    if not np.isfinite(factor):
        return "Some rows state no uncertainty at all."
    return (
        f"Standard deviations {factor:.2g} times as large would bring them to 90 % on these rows."
    )


def _ranking_finding(r: Regression, evidence: Evidence) -> str:
    """Say whether rows with a larger stated uncertainty have larger errors."""
    std = r.prediction.std.mean(dim=1)
    error = (r.y - r.prediction.mean).square().mean(dim=1).sqrt()
    if bool(std.max() - std.min() <= 1e-6 * std.max()):
        return "The stated uncertainty is the same for all rows, so it cannot tell hard rows apart."
    correlation = rank_correlation(std, error, evidence.resampling)
    shown = f"Spearman {plain(correlation)}"
    if correlation.low > 0:
        return (
            f"Error grows with the stated uncertainty: {shown}. "
            "Reviewing the most uncertain rows first finds the larger errors."
        )
    if correlation.high < 0:
        return f"Error falls as the stated uncertainty grows: {shown}. Row by row it misleads."
    return (
        f"No clear link between error and stated uncertainty: {shown}. "
        "Do not use it to choose rows for review."
    )


def _monte_carlo_finding(r: Regression) -> str:
    """Say whether more passes would change the mean."""
    p = r.prediction
    error = p.mcse.square().mean().sqrt().item()
    share = error / p.std.square().mean().sqrt().item()
    advice = (
        "more passes would change little"
        if share < _SMALL_ERROR
        else "predict with more passes for steadier numbers"
    )
    return (
        f"With {p.n_samples} passes the Monte Carlo error of the mean is {error:.2g} (units of y), "
        f"{100 * share:.2g} % of the stated standard deviation: {advice}."
    )
