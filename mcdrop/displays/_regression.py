"""A regression prediction beside its targets: PIT values, intervals, errors.

Arrays have shape (N, D), D outputs of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from mcdrop._masks.stratified import STRATUM
from mcdrop.displays._curve import Float64
from mcdrop.displays._draws import Draws
from mcdrop.errors import RangeError
from mcdrop.metrics import pit, pit_mixture, pit_normal
from mcdrop.metrics._arrays import tensor_of
from mcdrop.prediction import RegressionPrediction

__all__ = ["Array", "Regression"]

Array: TypeAlias = Tensor | Float64


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
    resampling: Draws

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
    def lacks_noise(self) -> bool:
        """Whether passes describe the mean function only; draws from elsewhere may be of y."""
        p = self.prediction
        return p.family == "mixture" and p.run is not None and not self.has_noise

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

    @property
    def rate(self) -> float | None:
        """Dropout rate of the passes, if it is the same at all sites."""
        run = self.prediction.run
        rates = set() if run is None else {site.p for site in run.sites if site.fired}
        return rates.pop() if len(rates) == 1 else None

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
        inner = tensor_of(self.pit_or_rank).clamp(1e-15, 1 - 1e-15)
        normal: Float64 = torch.special.ndtri(inner).numpy()
        return normal

    @property
    def uncertainty(self) -> Float64:
        """Stated standard deviation of each row, averaged over its outputs, (N,)."""
        std: Float64 = self.prediction.std.mean(dim=1).numpy()
        return std

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
            return tail, 1 - tail, tensor_of(self.pit)
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
