"""Moments of passes with the linear part of the network as control variate.

A pass is y = b l + r, where l is linear in the masks, E[l] = 0 and V = Var[l] is known. So

    E[y] = E[y - b l]    and    Var[y] = b^2 V + Var[r]    for the slope b = Cov(y, l) / V,

and only r, which is not linear in the masks, is left to the passes. The slope of every value comes
from its own passes and, where rows have masks of their own, from the other rows: it is shrunk
towards their mean by empirical Bayes, as far as the slopes of the rows agree within their errors.

Source: Lavenberg & Welch (1981) for control variates; DerSimonian & Laird (1986) for the spread of
the slopes among rows.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.groups import PassGroups
from mcdrop._engine.jackknife import Sizes, jackknife, means_without_each
from mcdrop._engine.linearization import LinearPart
from mcdrop._engine.moments import accumulation_dtype
from mcdrop._engine.student import widening

__all__ = ["Controlled", "ControlledMoments"]

_GROUPS = 16
# Beyond so many elements per pass, fewer groups are kept, to bound the memory.
_LARGE = 2**18
_FEWEST_GROUPS = 4
# Below the square of what rounding leaves of a slope of 1, so that it never decides a weight.
_LEAST = 1e-30
# What squares of float64 that cancel leave, relative to them.
_ROUNDING = 1e-12
# Share of the variance over masks below which that over passes does not tell the slope.
_LEAST_SEEN = 0.1
# Standard deviation of the slopes of networks, which are about 1.
_SPREAD_OF_SLOPES = 0.5
# Least squared error of a row's slope, as a share of that of the median row.
_LEAST_SHARE = 1e-2


@dataclass(frozen=True)
class Controlled:
    """What the passes and their linear part say together; all (n, ...).

    Attributes:
        mean: Mean over masks.
        mean_error: Its standard error; 1.96 of it cover 95 %.
        variance: Variance over masks.
        variance_error: Standard error of `variance` plus the mean of what varies with it.
        slope: Slope b of the passes on their linear part.
    """

    mean: Tensor
    mean_error: Tensor
    variance: Tensor
    variance_error: Tensor
    slope: Tensor


@dataclass(frozen=True)
class _Slope:
    """The slope of every value.

    Attributes:
        value: The slope.
        error: Its squared standard error.
        bias: What E[slope^2] lacks of the mean square of the true slopes.
        degrees: Degrees of freedom that it takes from the residuals, in [0, 1].
    """

    value: Tensor
    error: Tensor
    bias: Tensor
    degrees: Tensor


class ControlledMoments:
    """Sums over the passes so far and their linear part, by group of passes.

    Memory does not grow with the number of passes.

    Args:
        pools_rows: Whether the slope of a row may use those of the other rows. Rows that share
            their masks have errors in common, so that there is little to gain.
    """

    def __init__(self, *, pools_rows: bool) -> None:
        self.count = 0
        self._pools_rows = pools_rows
        self._center = self._variance = torch.zeros(0, device="cpu")
        self._groups = PassGroups(None)
        # Sums of y, l, y^2, y l, l^2 and of what varies with y, (6, groups, n, ...).
        self._sums = torch.zeros(0, device="cpu")

    def update(self, values: Tensor, linear: LinearPart, beside: Tensor | None = None) -> None:
        """Add passes.

        Args:
            values: (s, n, ...).
            linear: Their linear part.
            beside: A variance within every pass, whose mean is added to that over passes.
        """
        y = values.to(accumulation_dtype(values.device))
        part = linear.values.to(y)
        if not self.count:
            self._center = y.mean(dim=0)
            self._variance = linear.variance.to(y)
            numel = max(1, self._center.numel())
            n_groups = max(_FEWEST_GROUPS, min(_GROUPS, _GROUPS * _LARGE // numel))
            self._sums = y.new_zeros((6, n_groups, *y.shape[1:]))
        y = y - self._center
        member = self._groups.of(self.count, len(y), self._sums.shape[1])
        terms = [y, part, y.square(), y * part, part.square()]
        if beside is not None:
            terms.append(beside.to(y))
        for total, term in zip(self._sums, terms, strict=False):
            member.add(total, term, len(total))
        self.count += len(y)

    @property
    def plain_mean(self) -> Tensor:
        """Mean over passes, which is not finite where a pass is not."""
        return self._center + self._sums[0].sum(dim=0) / self.count

    def rows(self, rows: Tensor) -> Self:
        """Return the moments of some rows.

        Args:
            rows: Indices along dimension 1 of the values.
        """
        part = copy(self)
        part._center, part._variance = self._center[rows], self._variance[rows]
        part._sums = self._sums[:, :, rows]
        return part

    def result(self) -> Controlled:
        """Return mean and variance with their errors; at least four passes are needed."""
        count, variance = self.count, self._variance
        y, part, yy, yl, ll, _ = self._sums.sum(dim=1) / count
        spread, covariance, square = yy - y.square(), yl - y * part, ll - part.square()
        slope = self._slope(spread, covariance, square)
        b = slope.value
        rest = (spread - 2 * b * covariance + b.square() * square).clamp_min_(0)
        residual = rest * (count / (count - 1 - slope.degrees))
        total = (b.square() + slope.bias) * variance + residual
        widened = widening(count - 2)
        mean_error = (residual / count + part.square() * slope.error).sqrt() * widened
        # Two errors: of the residuals' mean square, and of b^2, whose derivative is 2 b.
        of_slope = (2 * b * variance).square() * slope.error * widened**2
        of_rest = self._error_of_rest(y - b * part, b)
        return Controlled(
            mean=self._center + y - b * part,
            mean_error=mean_error,
            # A variance: what is certain of it is the residuals'.
            variance=torch.maximum(total, rest),
            variance_error=(of_slope + of_rest.square()).sqrt(),
            slope=b,
        )

    def _slope(self, spread: Tensor, covariance: Tensor, square: Tensor) -> _Slope:
        """Estimate b from the second moments about the mean, all (n, ...)."""
        told = self._variance > 0
        own = torch.where(square > 0, covariance / square, 0)
        rest = (spread - own * covariance).clamp_min(0)
        error = torch.where(square > 0, rest / square / (self.count - 2), 0).clamp_min(_LEAST)
        # Passes that dropped none of the units that matter tell nothing of the slope along these.
        seen = torch.where(told, square / (_LEAST_SEEN * self._variance), 1).clamp_max(1)
        own = torch.where(told, 1 + seen * (own - 1), 0)
        error = error * seen.square() + (_SPREAD_OF_SLOPES * (1 - seen)).square()
        alike = self._pools_rows and int(told.sum(dim=0).max()) > 1
        if alike:
            # A row that is linear in its masks has no error, and would decide for all others.
            usual = torch.where(told, error, torch.nan).nanmedian(dim=0).values.nan_to_num_()
            error = torch.maximum(error, _LEAST_SHARE * usual)
        weight = torch.where(told, 1 / error, 0)
        # Residuals that grow with l make the slope less certain than their mean square tells.
        robust = self._error_by_groups() * square * told
        usual = error * square * told
        if alike:
            robust, usual = robust.sum(dim=0), usual.sum(dim=0)
        wider = (robust / usual.clamp_min(_LEAST)).clamp_min(1)
        if not alike:
            return _Slope(own, error * wider * told, -error * told, told.to(own))
        between = _between_rows(own, weight)
        weight = weight / (1 + between * weight)
        sums = weight.sum(dim=0).clamp_min(_LEAST)
        center = (own * weight).sum(dim=0) / sums
        share = between * weight
        return _Slope(
            value=center + share * (own - center),
            error=share * error * wider + (1 - share).square() / sums,
            bias=between * (1 - share.square()) - share.square() * error,
            degrees=share,
        )

    def _error_by_groups(self) -> Tensor:
        """Return the squared jackknife error of every value's own slope, (n, ...)."""
        sizes = self._sizes()
        remaining = self._sums[:, : len(sizes)]
        y, part, _, yl, ll, _ = (means_without_each(sums, sizes) for sums in remaining)
        square = ll - part.square()
        # Without the only passes that dropped a unit, rounding alone is left.
        told = square > _ROUNDING * square.amax(dim=0)
        own = torch.where(told, (yl - y * part) / square, 0)
        mean = own.sum(dim=0) / told.sum(dim=0).clamp_min(1)
        error = jackknife(mean, torch.where(told, own, mean), sizes)
        return (error / widening(len(sizes) - 1)).square()

    def _error_of_rest(self, mean: Tensor, b: Tensor) -> Tensor:
        """Return the standard error of E[r^2] plus the mean of what varies with it."""
        sizes = self._sizes()
        y, part, yy, yl, ll, beside = self._sums[:, : len(sizes)]
        rest = y - b * part
        square = yy - 2 * b * yl + b.square() * ll - 2 * mean * rest
        without = means_without_each(square + beside, sizes) + mean.square()
        return jackknife(without.mean(dim=0), without, sizes)

    def _sizes(self) -> Sizes:
        return self._groups.sizes(self.count, self._sums.shape[1])


def _between_rows(own: Tensor, weight: Tensor) -> Tensor:
    """Estimate the variance of the true slopes among rows, (...), by DerSimonian & Laird.

    Args:
        own: Slope of every row by itself, (n, ...).
        weight: One over its squared error; 0 where there is none.
    """
    sums = weight.sum(dim=0).clamp_min(_LEAST)
    # Differences to the slope that is known best, as weights may differ by more than their digits.
    off = own - own.gather(0, weight.argmax(dim=0, keepdim=True))
    center = (off * weight).sum(dim=0) / sums
    excess = ((off - center).square() * weight).sum(dim=0) - ((weight > 0).sum(dim=0) - 1)
    # The weight of all other rows, for every row.
    zero = torch.zeros_like(weight[:1])
    before = torch.cat([zero, weight[:-1]]).cumsum(dim=0)
    after = torch.cat([weight[1:], zero]).flip(0).cumsum(dim=0).flip(0)
    scale = (weight * (before + after)).sum(dim=0) / sums
    return (excess / scale.clamp_min(_LEAST)).clamp_min(0)
