"""Class probabilities of passes with the linearized network as control variate.

With scores z = f(1) + l + r, where l is linear in the masks and its law is known, a surrogate
z' = c + b l has class probabilities q whose means over masks can be had to any precision without
a pass. The mean T over passes of a quantity that is not negative is off by about as much as the
mean T' of the same quantity of their surrogates, so the estimate is

    T + k (E[T'] - T'),    k = min(1, T / T'),    with E[T'] over masks that belong to no pass.

This is the difference estimator for T >= T' and the ratio estimator T E[T'] / T' otherwise, and is
negative in neither case. It is taken for the probabilities p, for their squared deviations
(p - E p)^2 and for the divergences sum_c p_c log(p_c / E p_c), whose mean is the mutual
information. Where l explains little, b is near 0, the surrogate hardly varies, and passes decide.

Source: Cochran (1977), chapters 6 and 7, for ratio and difference estimators.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.groups import PassGroups
from mcdrop._engine.jackknife import jackknife
from mcdrop._engine.linearization import LinearPart
from mcdrop._engine.moments import accumulation_dtype
from mcdrop._engine.student import widening
from mcdrop._masks.stratified import STRATUM
from mcdrop._tasks.class_sums import ClassMeans, MaskSums, PassSums
from mcdrop._tasks.likelihoods import score_distributions
from mcdrop._tasks.tails import Tails
from mcdrop._tasks.widths import HALF_WIDTH, on_log_scale, std_shift
from mcdrop.prediction.classification import ClassificationPrediction, entropy

__all__ = ["ControlledClasses", "Estimates"]

# Passes that the surrogate is fitted to; later ones only take it.
_FITTED = 16
# Masks without a pass: at least so many, and this many for every pass, in whole strata.
_FEWEST_MASKS = 1024
_MASKS_PER_PASS = 16
# Numbers of a tile of them.
_TILE = 2**20
# Center and slope of the surrogate are two degrees of freedom.
_FITTED_DEGREES = 2
_TINY = 1e-30


@dataclass(frozen=True)
class Estimates:
    """What the passes and their surrogates say together, or the standard errors of that.

    Attributes:
        probs: Mean probabilities, (n, C, ...).
        variance: Their variance over masks, (n, C, ...).
        predictive_entropy: Entropy of the mean, (n, ...), nats.
        mutual_information: (n, ...), nats.
    """

    probs: Tensor
    variance: Tensor
    predictive_entropy: Tensor
    mutual_information: Tensor


@dataclass(frozen=True)
class _Chunk:
    """Passes with their draws, all (s, draws, n, ...)."""

    scores: Tensor
    probs: Tensor
    entropies: Tensor
    linear: Tensor

    @classmethod
    def of(cls, n_passes: int, *values: Tensor) -> _Chunk:
        """Sort draws by pass."""
        return cls(*(value.unflatten(0, (n_passes, -1)) for value in values))

    def __len__(self) -> int:
        return len(self.scores)


class ControlledClasses:
    """Accumulates passes and their surrogates.

    Memory does not grow with the number of passes. The numbers of a row depend on its own passes
    alone.

    Args:
        binary: Whether a score stands for class 1 of two.
        multilabel: Whether there are several such scores per row.
    """

    def __init__(self, binary: bool, multilabel: bool) -> None:
        self._binary, self._multilabel = binary, multilabel
        # What the surrogate leaves is hardly correlated within strata.
        self._passes, self._surrogates = (PassSums(PassGroups(None)) for _ in range(2))
        self._masks = MaskSums()
        # Of means over the draws of a pass, of all draws, of one draw of each pass, and of masks.
        self._tails, self._draw_tails, self._single_tails, self._mask_tails = (
            Tails(probabilities=True) for _ in range(4)
        )
        self._waiting: list[_Chunk] = []
        self._is_fitted = False
        self._center = self._slope = self._unexplained = torch.zeros(0, device="cpu")
        self._is_linear = torch.zeros(0, dtype=torch.bool, device="cpu")
        self._fresh: Callable[[int, int], Tensor] | None = None

    def update(
        self,
        scores: Tensor,
        probs: Tensor,
        entropies: Tensor,
        linear: LinearPart,
        n_passes: int,
    ) -> None:
        """Add passes.

        Args:
            scores: (n_passes * draws, n, ...).
            probs: Their class probabilities, (n_passes * draws, n, C, ...).
            entropies: Their entropies, (n_passes * draws, n, ...).
            linear: The linear part of the scores.
            n_passes: How many.
        """
        wide = scores.to(accumulation_dtype(scores.device))
        if linear.weights is not None:
            wide = wide - (wide * linear.weights.to(wide)).sum(dim=2, keepdim=True)
        self._fresh = linear.fresh
        self._waiting.append(
            _Chunk.of(n_passes, wide, probs.to(wide), entropies.to(wide), linear.values.to(wide))
        )
        if self._is_fitted or sum(map(len, self._waiting)) >= _FITTED:
            self._take()

    def rows(self, rows: Tensor) -> Self:
        """Return what has been accumulated of some rows.

        Args:
            rows: Indices along dimension 1 of the passes.
        """
        if self._waiting:
            self._take()
        part = copy(self)
        part._passes, part._surrogates = self._passes.rows(rows), self._surrogates.rows(rows)
        part._masks, part._tails = self._masks.rows(rows), self._tails.part(rows)
        part._draw_tails = self._draw_tails.part(rows)
        part._single_tails = self._single_tails.part(rows)
        part._mask_tails = self._mask_tails.part(rows)
        part._center, part._slope = self._center[rows], self._slope[rows]
        part._unexplained, part._is_linear = self._unexplained[rows], self._is_linear[rows]
        part._waiting = []
        return part

    def prediction(
        self, variation_ratio: Tensor, samples: Tensor | None, dtype: torch.dtype
    ) -> ClassificationPrediction:
        """Return the prediction.

        Args:
            variation_ratio: From the votes of the passes.
            samples: The passes, if they are kept.
            dtype: Type of the results.
        """
        found, error = self.estimates()
        std = found.variance.sqrt()
        std_error = error.variance / (2 * std).clamp_min(_TINY)
        shift, missed, divergence = self._missed(found.probs)
        beyond = std_shift(found.variance, missed) / HALF_WIDTH
        total, information = found.predictive_entropy, found.mutual_information
        information_error = on_log_scale(information, error.mutual_information)
        return ClassificationPrediction(
            probs=found.probs.to(dtype),
            probs_std=std.to(dtype),
            expected_entropy=(total - information).to(dtype),
            variation_ratio=variation_ratio.to(dtype),
            mcse=torch.maximum(on_log_scale(found.probs, error.probs), shift / HALF_WIDTH).to(
                dtype
            ),
            probs_std_mcse=torch.maximum(on_log_scale(std, std_error), beyond).to(dtype),
            predictive_entropy_mcse=error.predictive_entropy.to(dtype),
            mutual_information_mcse=torch.maximum(information_error, divergence / HALF_WIDTH).to(
                dtype
            ),
            # Divergences are averaged about the mean itself, not about that of the passes.
            mutual_information_bias=torch.zeros_like(information).to(dtype),
            n_samples=self._passes.count,
            samples=samples,
        )

    def estimates(self) -> tuple[Estimates, Estimates]:
        """Return the estimates and their standard errors."""
        if self._waiting:
            self._take()
        passes, surrogates, masks = (
            each.whole() for each in (self._passes, self._surrogates, self._masks)
        )
        classes = 1 - passes.probs.ndim
        found = _estimated(passes, surrogates, masks, classes)
        sizes, passes_without = self._passes.without_each()
        surrogates_without = self._surrogates.without_each()[1]
        without = _estimated(passes_without, surrogates_without, masks, classes)
        of_masks, masks_without = self._masks.without_each()
        other = _estimated(passes, surrogates, masks_without, classes)
        degrees = len(sizes) - 1
        fitted = widening(degrees - _FITTED_DEGREES) / widening(degrees)

        def error(name: str) -> Tensor:
            left, replaced = getattr(without, name), getattr(other, name)
            of_passes = jackknife(left.mean(dim=0), left, sizes)
            rest = jackknife(replaced.mean(dim=0), replaced, of_masks)
            return torch.hypot(of_passes * fitted, rest)

        names = ("probs", "variance", "predictive_entropy", "mutual_information")
        return found, Estimates(*(error(name) for name in names))

    def _missed(self, probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bound what passes that were not drawn may add to mean, variance and divergence.

        Of what rare passes add, the masks without a pass show as much as the surrogate explains.
        """
        unexplained, is_linear = self._unexplained, self._is_linear
        if self._binary:
            shape = len(probs), 1, *probs.shape[2:]
            unexplained, is_linear = unexplained.reshape(shape), is_linear.reshape(shape)
        beside = self._tails.missed(probs).or_more(self._draw_tails.missed(probs))
        # Without a linear part, only independent masks tell how rare an event is.
        beside = beside.or_more(self._single_tails.missed(probs).where(~is_linear))
        of_masks = self._mask_tails.missed(self._masks.whole().probs)
        if beside.divergence is None:
            raise RuntimeError("ControlledClasses: tails of no probabilities")
        # Scores deviate by d, their surrogates by e d less: the squares differ by about 2 e d^2.
        left = (2 * unexplained.sqrt()).clamp_max(1)
        variance = torch.maximum(left * beside.variance, of_masks.variance)
        shift = unexplained.sqrt() * beside.mean
        # Classes are taken to be independent: their rare passes are different ones.
        divergence = (unexplained * beside.divergence).square().sum(dim=1).sqrt()
        return shift, variance, divergence

    def _distributions(self, linear: Tensor) -> tuple[Tensor, Tensor]:
        """Return class probabilities and entropies of the surrogates."""
        scores = torch.addcmul(self._center.to(linear), linear, self._slope.to(linear))
        return score_distributions(scores, binary=self._binary, multilabel=self._multilabel)

    def _fit(self) -> None:
        """Fit center and slope of every row's surrogate to the first passes."""
        scores = torch.cat([each.scores for each in self._waiting])[:_FITTED].flatten(0, 1)
        linear = torch.cat([each.linear for each in self._waiting])[:_FITTED].flatten(0, 1)
        y, x = scores - scores.mean(dim=0), linear - linear.mean(dim=0)
        rest = tuple(range(1, x.ndim - 1))
        products, squares = (y * x).sum(dim=0), x.square().sum(dim=0)
        covariance, square = products, squares
        if rest:
            covariance, square = (each.sum(dim=rest, keepdim=True) for each in (products, squares))
        # Few passes may tell a slope beyond 1 by chance alone, or none where no unit was dropped.
        self._slope = torch.where(square > 0, covariance / square, 1).clamp(0, 1)
        self._center = (scores - self._slope * linear).mean(dim=0)
        self._is_linear = squares > 0
        whole = y.square().sum(dim=0)
        explained = self._slope * (2 * products - self._slope * squares)
        self._unexplained = torch.where(whole > 0, 1 - explained / whole, 1).clamp(0, 1)
        self._is_fitted = True

    def _take(self) -> None:
        """Add the passes that wait, and masks without a pass as their number demands."""
        if not self._is_fitted:
            self._fit()
        for each in self._waiting:
            n_passes = len(each)
            self._passes.update(each.probs.flatten(0, 1), each.entropies.flatten(0, 1), n_passes)
            self._tails.update(each.probs.mean(dim=1))
            self._single_tails.update(each.probs[:, 0])
            self._draw_tails.update(each.probs.flatten(0, 1))
            self._surrogates.update(*self._distributions(each.linear.flatten(0, 1)), n_passes)
        self._waiting = []
        if self._fresh is None:
            raise RuntimeError("ControlledClasses: a linear part without masks of its own")
        wanted = max(_FEWEST_MASKS, _MASKS_PER_PASS * self._passes.count)
        step = max(STRATUM, _TILE // max(1, self._center.numel()) // STRATUM * STRATUM)
        while self._masks.count < wanted:
            left = -(-(wanted - self._masks.count) // STRATUM) * STRATUM
            part = self._fresh(self._masks.count, min(step, left))
            probs, entropies = self._distributions(part)
            self._masks.update(probs, entropies)
            self._mask_tails.update(probs)


def _estimated(
    passes: ClassMeans, surrogates: ClassMeans, masks: ClassMeans, classes: int
) -> Estimates:
    """Return the estimates; `classes` is the dimension of classes, counted from the end."""
    mean = _controlled(passes.probs, surrogates.probs, masks.probs)
    mean = mean / mean.sum(dim=classes, keepdim=True)
    variance = _controlled(
        passes.deviations(mean), surrogates.deviations(masks.probs), masks.spread
    )
    information = _controlled(
        passes.divergences(mean, classes),
        surrogates.divergences(masks.probs, classes),
        masks.divergences(masks.probs, classes),
    )
    total = entropy(mean, dim=classes)
    return Estimates(mean, variance, total, torch.minimum(information, total))


def _controlled(passes: Tensor, surrogates: Tensor, masks: Tensor) -> Tensor:
    """Return the mean over passes, corrected by what their surrogates are off; not negative."""
    slope = torch.where(surrogates > 0, passes / surrogates, 1).clamp_max(1)
    return (passes + slope * (masks - surrogates)).clamp_min(0)
