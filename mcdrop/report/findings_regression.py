"""What the numbers of a regression say."""

from __future__ import annotations

import math

import numpy as np

from mcdrop.displays._curve import Float64
from mcdrop.displays._regression import Regression
from mcdrop.metrics import shape_test
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
from mcdrop.report.hypotheses_regression import NOMINAL
from mcdrop.report.measures import written

__all__ = ["regression_findings"]

# Normal quantile of a central 90 % interval.
_NORMAL_90 = 1.6449
# Below this share of the stated spread, more passes would change nothing one can see.
_SMALL_ERROR = 0.05
# Factors on the standard deviation this close to 1 are no advice.
_SMALL_CHANGE = 0.05
# Below this factor what is left after the bias is rounding.
_NOTHING = 1e-6
_SHAPES = {
    "skewed": "are skewed where the stated distribution is not",
    "heavy_tails": "have heavier tails than stated",
    "light_tails": "have lighter tails than stated",
    "none": "have another shape than stated",
}


def regression_findings(r: Regression, evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """Return the headline and the findings about a regression."""
    if not r.has_spread:
        state = f"{evidence.name} states no uncertainty"
        only = Finding(f"{state}: only its point errors can be judged.", state)
        return told([only, *against_baselines(evidence)], evidence)
    # In this order where nothing is wrong or two are equally so.
    tested = [
        _bias_finding(r, evidence),
        _spread_finding(r, evidence),
        _shape_finding(r, evidence),
        _row_finding(r, evidence),
        _ranking_finding(r, evidence),
    ]
    findings = [finding for finding in tested if finding is not None]
    findings += slice_findings(evidence) + against_baselines(evidence)
    p = r.prediction
    if p.n_samples > 1 and r.has_noise:
        findings.append(epistemic_share(p.epistemic_variance, p.variance, "predictive variance"))
    if p.n_samples > 1:
        findings.append(_monte_carlo_finding(r))
    return told(findings, evidence)


def _bias_finding(r: Regression, evidence: Evidence) -> Finding | None:
    """Say that predictions are too low or too high throughout."""
    if r.scores is None or not evidence.rejects("bias"):
        return None
    place, output = _worst_bias(r)
    error = (r.y - r.prediction.mean).mean(dim=0)[place].item()
    side, way = ("low", "above") if error > 0 else ("high", "below")
    shift = float(r.scores.mean(axis=0)[place])
    return Finding(
        f"Predictions are too {side}{output}: targets lie {abs(error):.2g} units of y {way} the "
        f"predictive mean on average, {abs(shift):.2g} stated standard deviations.",
        f"Predictions are biased: too {side} by {abs(error):.2g} on average",
        # Total variation between a standard normal and one moved by `shift`.
        math.erf(abs(shift) / 2 / math.sqrt(2)),
    )


def _worst_bias(r: Regression) -> tuple[int, str]:
    """Return the output with the largest shift, and its name where there are several."""
    shifts = np.zeros(1) if r.scores is None else np.abs(r.scores.mean(axis=0))
    place = int(shifts.argmax())
    return place, f" in output {place}" if len(shifts) > 1 else ""


def _spread_finding(r: Regression, evidence: Evidence) -> Finding:
    """Compare the coverage of 90 % intervals with 90 %, then errors with stated std."""
    if "coverage_90" not in evidence.metrics:
        text = "Whether 90 % intervals hold 90 % cannot be judged: there are none."
        return Finding(text, "There are no 90 % intervals to judge")
    observed = evidence.metrics["coverage_90"]
    held = f"90 % intervals hold {written('coverage_90', observed)} of the targets"
    if evidence.rejects("coverage_90"):
        state = "too narrow" if observed.value < NOMINAL else "too wide"
        return Finding(
            f"{held}: they are {state}. {_spread_advice(r, evidence)}",
            f"90 % intervals are {state}",
            abs(observed.value - NOMINAL),
        )
    # Heavy tails alone make errors large on average; that finding is about the shape.
    if evidence.rejects("dispersion") and not evidence.rejects("shape") and r.scores is not None:
        return _dispersion_finding(r.scores, held)
    needed = rows_for_share(NOMINAL, VISIBLE_GAP, evidence.level)
    if evidence.n_rows >= needed:
        return Finding(
            f"{held}, which agrees with 90 %: {needed} rows would show a gap of 5 points.",
            "90 % intervals hold what they state",
        )
    apart = f"cannot be told apart from 90 % with {evidence.n_rows} rows"
    return Finding(
        f"{held}, which {apart}; about {needed} rows would show a gap of 5 points.",
        f"{held}: {evidence.n_rows} rows cannot tell that from 90 %",
    )


def _dispersion_finding(z: Float64, held: str) -> Finding:
    """Say how large errors are against the stated std where coverage alone does not tell."""
    # Errors that are all equal have no spread; the floor keeps logarithm and quotient finite.
    ratios = np.maximum(z.std(axis=0, ddof=1), _NOTHING)
    place = int(np.abs(np.log(ratios)).argmax())
    ratio, output = float(ratios[place]), f" in output {place}" if len(ratios) > 1 else ""
    state = "small" if ratio > 1 else "large"
    return Finding(
        f"Stated standard deviations are too {state}{output}: around their mean, errors are "
        f"{ratio if ratio > _NOTHING else 0:.2g} times as large (root mean square). {held}.",
        f"Stated standard deviations are too {state}",
        _scale_distance(ratio),
    )


def _scale_distance(ratio: float) -> float:
    """Total variation between centered normals whose std differ by `ratio`."""
    from scipy.special import ndtr

    wide = max(ratio, 1 / ratio)
    # Where the two densities are equal: x^2 (1 - wide^-2) = 2 log wide.
    x = math.sqrt(2 * math.log(wide) / (1 - wide**-2)) if wide > 1 + 1e-9 else 1.0
    return float(2 * (ndtr(x) - ndtr(x / wide)))


def _spread_advice(r: Regression, evidence: Evidence) -> str:
    """Say what would bring 90 % intervals to 90 %: a bias goes first, then the scale."""
    if r.lacks_noise:
        return (
            "No observation noise was given, so they describe the mean function, not single "
            "targets: predict with noise_std=."
        )
    error, std = (r.y - r.prediction.mean).numpy(), r.prediction.std.numpy()
    if not evidence.rejects("bias"):
        factor = _factor(error, std)
        if not np.isfinite(factor):
            return "Some rows state no uncertainty at all."
        return f"Standard deviations {factor:.2g} times as large would bring them to 90 % here."
    factor = _factor(error - error.mean(axis=0), std)
    if factor < _NOTHING:
        return "Remove the bias: it is all of the error."
    if abs(factor - 1) < _SMALL_CHANGE:
        return "Remove the bias and leave the standard deviations: they fit the errors around it."
    return (
        f"Remove the bias first: after that, standard deviations {factor:.2g} times as large would "
        "bring them to 90 % here."
    )


def _factor(error: Float64, std: Float64) -> float:
    """Factor on the std with which 90 % of the errors lie inside 90 % intervals."""
    size = np.abs(error)
    ratio = np.divide(size, std, out=np.full_like(size, np.inf), where=std > 0)
    return float(np.quantile(ratio, NOMINAL, method="lower")) / _NORMAL_90


def _shape_finding(r: Regression, evidence: Evidence) -> Finding | None:
    """Say how the distribution of the errors differs from the stated one, at any mean and std."""
    if r.scores is None or not evidence.rejects("shape"):
        return None
    w = (r.scores - r.scores.mean(axis=0)) / r.scores.std(axis=0, ddof=1)
    place = int(np.array([_normal_distance(column) for column in w.T]).argmax())
    w = w[:, place]
    direction = shape_test(np.asarray(r.pit_or_rank)[:, place]).direction
    kind = _SHAPES[direction]
    output = f" in output {place}" if r.scores.shape[1] > 1 else ""
    shares = {level: r.inside(level) for level in (0.5, 0.95, 0.99)}
    held = ", ".join(
        f"{100 * inside.double().mean().item():.3g} % in {100 * level:.0f} % intervals"
        for level, inside in shares.items()
        if inside is not None
    )
    return Finding(
        f"Errors {kind}{output}. Of the targets lie {held}: no factor on the standard deviation "
        "mends this; a recalibration of all quantiles does.",
        f"Errors {kind}",
        _normal_distance(w),
    )


def _normal_distance(w: Float64) -> float:
    """Kolmogorov distance from the standard normal: the largest error of any stated probability."""
    from scipy.stats import kstest

    return float(kstest(w, "norm").statistic)


def _row_finding(r: Regression, evidence: Evidence) -> Finding | None:
    """Say that the stated std varies too much or too little between rows."""
    if r.scores is None or not evidence.rejects("by_row"):
        return None
    size = np.abs(2 * _uniform(r.scores - r.scores.mean(axis=0)) - 1).mean(axis=1)
    std = r.prediction.std.mean(dim=1).numpy()
    sure = std <= np.median(std)
    if sure.all():
        sure = std < std.max()
    gap = float(size[sure].mean() - size[~sure].mean())
    way = "much" if gap > 0 else "little"
    low, high = ("larger", "smaller") if gap > 0 else ("smaller", "larger")
    return Finding(
        f"The stated standard deviation varies too {way} between rows: against it, errors are "
        f"{low} where it is small and {high} where it is large, so intervals that hold on average "
        "do not hold row by row.",
        f"The stated standard deviation varies too {way} between rows",
        abs(gap) / 2,
    )


def _uniform(z: Float64) -> Float64:
    from scipy.special import ndtr

    values: Float64 = ndtr(z)
    return values


def _ranking_finding(r: Regression, evidence: Evidence) -> Finding:
    """Say whether rows with a larger stated uncertainty have larger errors."""
    if "ranking" not in evidence.verdicts:
        return Finding(
            "The stated uncertainty is the same for all rows, so it cannot tell hard rows apart."
        )
    std = r.prediction.std.mean(dim=1).numpy()
    correlation = rank_correlation(std, r.row_errors, evidence.resampling)
    if not evidence.rejects("ranking"):
        return too_few_rows_to_rank("error and stated uncertainty", correlation, evidence)
    if correlation.value > 0:
        return Finding(
            f"Error grows with the stated uncertainty: {plain(correlation)}. "
            "Reviewing the most uncertain rows first finds the larger errors."
        )
    return Finding(
        f"Error falls as the stated uncertainty grows: {plain(correlation)}. "
        "Row by row it misleads.",
        "Error falls as the stated uncertainty grows",
        abs(correlation.value) / 2,
    )


def _monte_carlo_finding(r: Regression) -> Finding:
    """Say whether more passes would change the mean."""
    p = r.prediction
    error = p.mcse.square().mean().sqrt().item()
    share = error / p.std.square().mean().sqrt().item()
    advice = (
        "more passes would change little"
        if share < _SMALL_ERROR
        else "predict with more passes for steadier numbers"
    )
    return Finding(
        f"With {p.n_samples} passes the Monte Carlo error of the mean is {error:.2g} (units of y), "
        f"{100 * share:.2g} % of the stated standard deviation: {advice}."
    )
