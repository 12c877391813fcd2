"""Scores of a regression prediction.

Every score is averaged over the D outputs of a row, and intervals resample rows, so that outputs of
one row stay together.
"""

from __future__ import annotations

from mcdrop.displays._regression import Regression
from mcdrop.metrics import (
    crps_ensemble,
    crps_normal,
    interval_width,
    nll_mixture,
    nll_normal,
    rmse,
    sharpness,
)
from mcdrop.prediction import RegressionPrediction
from mcdrop.report.detection import error_auroc
from mcdrop.report.measures import Missing, NamedScores, Score, Uncompared, as_scored

__all__ = ["regression_scores"]

_TABLE_LEVELS = (0.5, 0.9, 0.95)
_NO_SPREAD = "a point forecast states no uncertainty"
_NO_INTERVAL = "too few calibration rows for this level"
_NO_NOISE = "needs observation noise; predict with noise_std="


def regression_scores(r: Regression) -> NamedScores:
    """Score one prediction: every number of the table, or why it is missing."""
    p = r.prediction
    scores: dict[str, Score | Uncompared | Missing] = {
        "rmse": Score(rmse, (p.mean, r.y), losses=(p.mean - r.y).square().mean(dim=1)),
        "nll": _nll(r),
        "crps": _crps(r),
    }
    for level in _TABLE_LEVELS:
        key = f"coverage_{level * 100:.0f}"
        scores[key] = _coverage(r, level) if r.has_spread else Missing(_NO_SPREAD)
    if r.has_spread:
        scores["interval_width_90"] = _width(r)
        scores["sharpness"] = Score(sharpness, (p.std,))
    else:
        scores["interval_width_90"] = scores["sharpness"] = Missing(_NO_SPREAD)
    scores["auroc_error"] = _auroc(r)
    return scores


def _auroc(r: Regression) -> Uncompared | Missing:
    """Score how well the stated standard deviation finds the large errors."""
    if not r.has_spread:
        return Missing(_NO_SPREAD)
    found = error_auroc(r.uncertainty, r.row_errors, r.resampling)
    if found is None:
        return Missing("all errors are equal")
    return Uncompared(found, "by standard deviation, of the absolute error")


def _coverage(r: Regression, level: float) -> Score | Missing:
    """Score the share of targets inside the central interval."""
    inside = r.inside(level)
    if inside is None:
        return Missing(_NO_INTERVAL)
    return Score(as_scored, (inside.double(),), r.shape_note)


def _width(r: Regression) -> Score | Missing:
    """Score the width of 90 % intervals."""
    if r.bounds(0.9) is None:
        return Missing(_NO_INTERVAL)
    return Score(interval_width, r.interval(0.9), r.shape_note)


def _nll(r: Regression) -> Score | Missing:
    """Score the density: the mixture if passes and noise are there, else the normal."""
    p = r.prediction
    if p.family == "mixture" and not r.has_noise:
        return Missing(_NO_NOISE)
    if not bool((p.variance > 0).all()):
        return Missing(_NO_SPREAD if not r.has_spread else "some rows state no uncertainty")
    if type(p).log_prob is not RegressionPrediction.log_prob:
        return Score.by_row(-p.log_prob(r.y), r.shape_note)
    if r.passes is None:
        return Score.by_row(nll_normal(p.mean, p.std, r.y), r.shape_note)
    return Score.by_row(nll_mixture(r.passes, r.pass_stds, r.y), r.shape_note)


def _crps(r: Regression) -> Score:
    """Score the distribution: the passes themselves without noise, else the matched normal."""
    p = r.prediction
    if not r.has_spread:
        note = "mean absolute error, as the forecast is a point"
        return Score.by_row(crps_normal(p.mean, p.std, r.y), note)
    if r.passes is not None and not r.has_noise and len(r.passes) > 1:
        score = crps_ensemble(r.passes, r.y, stratum=r.stratum, p=r.rate)
        return Score.by_row(score, r.shape_note)
    note = "moment-matched normal" if p.family == "mixture" else "normal"
    return Score.by_row(crps_normal(p.mean, p.std, r.y), note)
