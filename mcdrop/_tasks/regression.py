"""Accumulator of a regression: chunks of passes over one batch in, one prediction out."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.controlled import Controlled, ControlledMoments
from mcdrop._engine.groups import PassGroups
from mcdrop._engine.jackknife import jackknife
from mcdrop._engine.linearization import LinearPart
from mcdrop._engine.moments import Moments, accumulation_dtype
from mcdrop._engine.outputs import check_rows_finite
from mcdrop._tasks.accumulate import extremes, numbered, result_dtype
from mcdrop._tasks.likelihoods import OutputType, mean_and_variance
from mcdrop._tasks.tails import Missed, Tails
from mcdrop._tasks.tiles import in_tiles, is_large
from mcdrop._tasks.widths import HALF_WIDTH, on_log_scale, std_shift
from mcdrop.errors import ShapeError
from mcdrop.prediction.regression import RegressionPrediction

__all__ = ["RegressionAccumulator"]

_TINY = 1e-30


class RegressionAccumulator:
    """Accumulates mean and variance of a real-valued output, with given or predicted noise.

    Args:
        function: Public function to name in errors.
        first_row: Number of the batch's first row among all inputs.
        keep_samples: Whether the prediction holds every pass.
        groups: Groups of passes for the jackknife.
        noise_std: Known standard deviation of the observation noise, units of y.
        spread: How the model states its noise, if it predicts it.
        exact_last: Whether chunks hold the variance of an integrated last dropout.
        pools_rows: Whether rows have masks of their own, so that each may learn from the others
            how passes depend on their linear part.
    """

    def __init__(
        self,
        function: str,
        first_row: int,
        keep_samples: bool,
        groups: PassGroups,
        *,
        noise_std: Tensor | None = None,
        spread: OutputType | None = None,
        exact_last: bool = False,
        pools_rows: bool = False,
    ) -> None:
        self._function = function
        self._first_row: int | Tensor = first_row
        self._noise_std = noise_std
        self._spread = spread
        self._noise = Moments(groups)
        self._exact_last = exact_last
        self._last = Moments(groups)
        self._samples: list[Tensor] | None = [] if keep_samples else None
        self._variances: list[Tensor] = []
        self._moments = Moments(groups)
        self._tails = Tails()
        self._pools_rows = pools_rows
        self._controlled: ControlledMoments | None = None
        self._rest = Tails()
        self._count = 0
        self._dtype = torch.float32

    def update(self, chunk: Tensor, linear: LinearPart | None = None) -> None:
        """Add passes, (s, n, ...), with their linear part if that is the control variate.

        (s, n, ..., 2) where the model predicts its noise or the last dropout is integrated: the
        last dimension then holds the value and its noise, or the value and the variance over the
        masks of the last dropout.
        """
        self._dtype = result_dtype(chunk)
        beside = None
        if self._exact_last:
            chunk, beside = chunk.unbind(dim=-1)
            self._last.update(beside)
        if self._spread is not None:
            check_rows_finite(self._function, extremes(chunk), self._first_row)
            wide = chunk.to(accumulation_dtype(chunk.device))
            chunk, variance = mean_and_variance(self._function, wide, self._spread)
            self._noise.update(variance)
            if self._samples is not None:
                self._variances.append(variance.to(self._dtype))
            beside = variance
        if linear is None:
            self._moments.update(chunk)
        else:
            if self._controlled is None:
                self._controlled = ControlledMoments(pools_rows=self._pools_rows)
            self._controlled.update(chunk, linear, beside)
            self._rest.update(chunk - linear.values)
        self._tails.update(chunk)
        self._count += len(chunk)
        if self._samples is not None:
            self._samples.append(chunk.to(self._dtype))

    def rows(self, rows: Tensor) -> Self:
        """Return an accumulator that has seen the same passes of some rows."""
        part = self._part(rows)
        if self._controlled is not None:
            part._controlled = self._controlled.rows(rows)
            part._rest = self._rest.part(rows)
        return part

    def _part(self, rows: Tensor | slice, *places: slice) -> Self:
        """Return an accumulator that has seen the same passes of some rows and places."""
        part, some = copy(self), (rows, *places)
        part._first_row = numbered(self._first_row, rows)
        if self._controlled is None:
            part._moments = self._moments.part(*some)
        part._tails = self._tails.part(*some)
        part._noise = self._noise.part(*some) if self._spread is not None else self._noise
        part._last = self._last.part(*some) if self._exact_last else self._last
        if places and self._noise_std is not None and self._noise_std.ndim:
            part._noise_std = self._noise_std[places]
        if self._samples is not None:
            part._samples = [chunk[:, rows] for chunk in self._samples]
            part._variances = [chunk[:, rows] for chunk in self._variances]
        return part

    def result(self) -> RegressionPrediction:
        """Return the prediction for the batch."""
        if self._controlled is not None or self._samples is not None:
            return self._result()
        mean = self._moments.mean
        if not is_large(mean):
            return self._result()
        # All rows and the whole shape are to be named.
        check_rows_finite(self._function, mean, self._first_row)
        if self._spread is not None:
            check_rows_finite(self._function, self._noise.mean, self._first_row)
        else:
            _noise_variance(self._function, self._noise_std, mean)

        def of_tile(rows: slice, places: slice) -> RegressionPrediction:
            return self._part(rows, *(places,) * (mean.ndim > 1))._result()

        return in_tiles(mean, 1, of_tile)

    def _result(self) -> RegressionPrediction:
        controlled = None
        if self._controlled is not None:
            check_rows_finite(self._function, self._controlled.plain_mean, self._first_row)
            controlled = self._controlled.result()
        moments = controlled or self._moments
        mean, variance = moments.mean, moments.variance
        if self._exact_last:
            # The law of total variance, over the masks of the last dropout and all others.
            variance = variance + self._last.mean
        check_rows_finite(self._function, mean + variance, self._first_row)
        if self._spread is not None:
            # The law of total variance: E[noise variance] + Var[mean].
            noise = self._noise.mean
            check_rows_finite(self._function, noise, self._first_row)
        else:
            noise = _noise_variance(self._function, self._noise_std, mean)
        total = variance + noise
        std = total.sqrt()
        if controlled is None:
            missed = self._tails.missed(mean)
            shift = missed.mean * self._moments.nonlinear_share.sqrt()
            std_error = self._std_error(noise)
        else:
            missed = self._missed_beside_linear(controlled)
            shift = missed.mean
            std_error = controlled.variance_error / (2 * std).clamp_min(_TINY)
        return RegressionPrediction(
            mean=mean.to(self._dtype),
            epistemic_variance=variance.to(self._dtype),
            aleatoric_variance=noise.to(self._dtype),
            mcse=torch.maximum(moments.mean_error, shift / HALF_WIDTH).to(self._dtype),
            std_mcse=torch.maximum(
                on_log_scale(std, std_error),
                std_shift(total, missed.variance) / HALF_WIDTH,
            ).to(self._dtype),
            n_samples=self._count,
            samples=None if self._samples is None else torch.cat(self._samples),
            sample_variances=torch.cat(self._variances) if self._variances else None,
        )

    def _missed_beside_linear(self, controlled: Controlled) -> Missed:
        """Bound what passes that were not drawn may add to what is not linear in the masks.

        y - b l = b (y - l) + (1 - b) y, so its extremes are bounded by those of y - l and y.
        """
        b = controlled.slope
        of_rest, of_all = (tails.missed(controlled.mean) for tails in (self._rest, self._tails))
        weights = b.abs(), (1 - b).abs()
        shift = weights[0] * of_rest.mean + weights[1] * of_all.mean
        # Cauchy-Schwarz for the squares.
        square = weights[0] * of_rest.variance + weights[1] * of_all.variance
        return Missed(shift, square * (weights[0] + weights[1]), None)

    def _std_error(self, noise: Tensor) -> Tensor:
        """Return the jackknife standard error of the predictive standard deviation."""
        sizes, _, variances = self._moments.without_each()
        if self._spread is not None:
            _, noise, _ = self._noise.without_each()
        if self._exact_last:
            variances = variances + self._last.without_each()[1]
        without_each = (variances + noise).sqrt()
        # The jackknife's center; the value from all passes differs from it by a bias only.
        whole = without_each.mean(dim=0)
        return jackknife(whole, without_each, sizes)


def _noise_variance(function: str, noise_std: Tensor | None, mean: Tensor) -> Tensor:
    """Return the noise variance of every value; zeros if no noise was given."""
    if noise_std is None:
        return torch.zeros_like(mean)
    shape, row = tuple(noise_std.shape), mean.shape[1:]
    if shape not in {(), tuple(row)}:
        raise ShapeError.of(
            function,
            "noise_std",
            f"be a number or one per output, shape {tuple(row)}",
            f"shape {shape}",
            "Noise that differs by row needs a model that predicts it",
        )
    return noise_std.to(mean).square().expand_as(mean).clone()
