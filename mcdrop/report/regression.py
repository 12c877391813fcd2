"""Scores and figure points of a regression prediction.

Arrays have shape (N, D): every score is averaged over the D outputs of a row, and intervals
resample rows, so that outputs of one row stay together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mcdrop._masks.stratified import STRATUM
from mcdrop.errors import RangeError
from mcdrop.metrics import (
    crps_ensemble,
    crps_normal,
    interval_width,
    nll_mixture,
    nll_normal,
    pit,
    pit_mixture,
    pit_normal,
    rmse,
    sharpness,
    wilson_interval,
)
from mcdrop.prediction import RegressionPrediction
from mcdrop.report.curves import Float64, equal_groups
from mcdrop.report.measures import (
    Array,
    Missing,
    NamedScores,
    Resampling,
    Score,
    as_scored,
)
from mcdrop.report.values import FigureCurve

__all__ = ["Regression", "regression_curves", "regression_scores"]

_TABLE_LEVELS = (0.5, 0.9, 0.95)
_CURVE_LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
_PIT_BINS, _PIT_ROWS = 10, 100
_NO_SPREAD = "a point forecast states no uncertainty"
_NO_INTERVAL = "too few calibration rows for this level"
_NO_NOISE = "needs observation noise; predict with noise_std="


@dataclass(frozen=True)
class Regression:
    """A prediction and its targets, float64, (N, D), with the predictive distribution.

    Attributes:
        prediction: As float64 on the CPU with `mean` of shape (N, D).
        y: Targets of the same shape.
        resampling: Level and seed of intervals and draws.
    """

    prediction: RegressionPrediction
    y: Tensor
    resampling: Resampling

    @property
    def has_spread(self) -> bool:
        """Whether any row states an uncertainty."""
        return bool((self.prediction.variance > 0).any())

    @property
    def has_noise(self) -> bool:
        """Whether every value has observation noise, so that the mixture is a density."""
        p = self.prediction
        noise = p.aleatoric_variance if p.sample_variances is None else p.sample_variances
        return bool((noise > 0).all())

    @property
    def passes(self) -> Tensor | None:
        """Mean of each pass, (S, N, D), if their mixture is the predictive distribution."""
        return self.prediction.samples if self.prediction.family == "mixture" else None

    @property
    def pass_stds(self) -> Tensor:
        """Observation noise of each pass, (S, N, D) or what broadcasts to it."""
        p = self.prediction
        if p.sample_variances is not None:
            return p.sample_variances.sqrt()
        return p.aleatoric_variance.sqrt().expand(p.n_samples, -1, -1)

    @property
    def has_own_intervals(self) -> bool:
        """Whether the class overrides intervals or quantiles: conformal or recalibrated ones."""
        kind, base = type(self.prediction), RegressionPrediction
        return kind.interval is not base.interval or kind.quantile is not base.quantile

    @property
    def shape_note(self) -> str:
        """Which distribution intervals and densities are taken from."""
        if self.has_own_intervals:
            return "recalibrated"
        drawn = "samples" if self.prediction.run is None else "passes"
        count = f"{self.prediction.n_samples} {drawn}"
        if self.passes is not None and self.has_noise:
            return f"mixture over {count}"
        if self.passes is not None:
            return f"{count} without observation noise"
        if self.prediction.family == "mixture":
            return "moment-matched normal, as the passes were not kept"
        return "normal"

    @property
    def stratum(self) -> int | None:
        """Passes in one stratum; None where passes are independent of one another."""
        run = self.prediction.run
        return STRATUM if run is not None and run.stratified else None

    @cached_property
    def pit(self) -> Array | None:
        """PIT of every target; None if the prediction has no density."""
        p = self.prediction
        if self.has_own_intervals:
            return None
        if self.passes is not None:
            return pit_mixture(self.passes, self.pass_stds, self.y) if self.has_noise else None
        return pit_normal(p.mean, p.std, self.y) if bool((p.std > 0).all()) else None

    @cached_property
    def scores(self) -> Float64 | None:
        """Normal scores of the targets, (N, D): standard normal if calibrated.

        Phi^-1 of the PIT, which for a normal prediction is (y - mean) / std; None if the PIT is
        not defined.
        """
        p = self.prediction
        if self.pit_or_rank is None:
            return None
        if self.passes is None:
            standardized: Float64 = ((self.y - p.mean) / p.std).numpy()
            return standardized
        # Beyond 8 standard deviations float64 cannot tell the PIT from 0 or 1.
        inner = torch.as_tensor(self.pit_or_rank).clamp(1e-15, 1 - 1e-15)
        normal: Float64 = torch.special.ndtri(inner).numpy()
        return normal

    @property
    def row_errors(self) -> Float64:
        """Root mean squared error of each row over its outputs, (N,)."""
        errors: Float64 = (self.y - self.prediction.mean).square().mean(dim=1).sqrt().numpy()
        return errors

    @cached_property
    def pit_or_rank(self) -> Array | None:
        """PIT of every target; among passes without noise, its randomized rank."""
        if self.has_own_intervals or self.pit is not None or self.passes is None:
            return self.pit
        return pit(self.passes, self.y, seed=self.resampling.seed, stratum=self.stratum)

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Central interval, from the mixture if there is one, else from the normal."""
        p = self.prediction
        if self.has_own_intervals or self.passes is not None:
            return p.interval(level)
        return p.as_normal().interval(level)

    def bounds(self, level: float) -> tuple[Tensor, Tensor, Tensor] | None:
        """Lower end, upper end and target of each central interval, (N, D); None if there is none.

        On the scale of the PIT, where the ends are the interval's two levels, if that is defined:
        this saves solving for the quantiles of a mixture, row by row.
        """
        if self.pit is not None:
            tail = torch.full_like(self.y, (1 - level) / 2)
            return tail, 1 - tail, torch.as_tensor(self.pit)
        try:
            return (*self.interval(level), self.y)
        except RangeError:
            return None

    def inside(self, level: float) -> Tensor | None:
        """Whether each target lies in its central interval, bool, (N, D); None if there is none."""
        bounds = self.bounds(level)
        if bounds is None:
            return None
        low, high, target = bounds
        return (low <= target) & (target <= high)

    def coverage(self, level: float) -> Score | Missing:
        """Score the share of targets inside the central interval."""
        inside = self.inside(level)
        if inside is None:
            return Missing(_NO_INTERVAL)
        return Score(as_scored, (inside.double(),), self.shape_note)


def regression_scores(r: Regression) -> NamedScores:
    """Score one prediction: every number of the table, or why it is missing."""
    p = r.prediction
    scores: dict[str, Score | Missing] = {
        "rmse": Score(rmse, (p.mean, r.y), losses=(p.mean - r.y).square().mean(dim=1)),
        "nll": _nll(r),
        "crps": _crps(r),
    }
    for level in _TABLE_LEVELS:
        key = f"coverage_{level * 100:.0f}"
        scores[key] = r.coverage(level) if r.has_spread else Missing(_NO_SPREAD)
    if r.has_spread:
        scores["interval_width_90"] = _width(r)
        scores["sharpness"] = Score(sharpness, (p.std,))
    else:
        scores["interval_width_90"] = scores["sharpness"] = Missing(_NO_SPREAD)
    return scores


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
        return Score.by_row(crps_ensemble(r.passes, r.y, stratum=r.stratum), r.shape_note)
    note = "moment-matched normal" if p.family == "mixture" else "normal"
    return Score.by_row(crps_normal(p.mean, p.std, r.y), note)


def regression_curves(
    methods: Mapping[str, Regression], resampling: Resampling
) -> dict[str, tuple[FigureCurve, ...]]:
    """Points of every figure, one curve per method that states an uncertainty."""
    stated = {name: r for name, r in methods.items() if r.has_spread}
    level = resampling.level
    if not stated:
        return {}
    pits = {name: r.pit_or_rank for name, r in stated.items()}
    return {
        "coverage": tuple(_coverage_curve(name, r, level) for name, r in stated.items()),
        "error_by_std": tuple(_error_by_std(name, r, resampling) for name, r in stated.items()),
        "pit": tuple(
            _pit_histogram(name, values, level)
            for name, values in pits.items()
            if values is not None
        ),
    }


def _coverage_curve(name: str, r: Regression, level: float) -> FigureCurve:
    """Observed share inside the central interval against its stated level."""
    held = {nominal: r.inside(nominal) for nominal in _CURVE_LEVELS}
    shares = {q: inside.double().mean().item() for q, inside in held.items() if inside is not None}
    observed, n = np.array(list(shares.values())), len(r.y)
    # Outputs of one row may depend on each other: the interval counts rows only.
    ends = wilson_interval(observed * n, n, level=level)
    low, high = (tuple(end.tolist()) for end in ends)
    return FigureCurve(name, tuple(shares), tuple(observed.tolist()), low, high)


def _error_by_std(name: str, r: Regression, resampling: Resampling) -> FigureCurve:
    """Observed RMSE against the stated standard deviation, in groups of equal size."""
    std, mean, y = (values.reshape(-1) for values in (r.prediction.std, r.prediction.mean, r.y))
    groups = equal_groups(std.numpy())
    observed = [resampling.estimate(Score(rmse, (mean[g], y[g]))) for g in groups]
    return FigureCurve(
        name,
        x=tuple(sharpness(std[g]) for g in groups),
        y=tuple(e.value for e in observed),
        low=tuple(e.low for e in observed),
        high=tuple(e.high for e in observed),
        count=tuple(len(g) for g in groups),
    )


def _pit_histogram(name: str, pit_values: Array, level: float) -> FigureCurve:
    """Share of targets by PIT, and the range of shares if calibrated."""
    from scipy.stats import binom

    n_rows, values = len(pit_values), np.asarray(pit_values).reshape(-1)
    n_bins = _PIT_BINS if len(values) >= _PIT_ROWS else _PIT_BINS // 2
    count, edges = np.histogram(values, bins=n_bins, range=(0.0, 1.0))
    # Outputs of one row are not independent: the range counts rows only.
    low, high = (float(end) / n_rows for end in binom.interval(level, n_rows, 1 / n_bins))
    return FigureCurve(
        name,
        x=tuple((0.5 * (edges[1:] + edges[:-1])).tolist()),
        y=tuple((count / count.sum()).tolist()),
        low=(low,) * n_bins,
        high=(high,) * n_bins,
        count=tuple(count.tolist()),
    )
