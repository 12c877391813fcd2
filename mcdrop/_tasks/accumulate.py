"""Accumulators: chunks of passes over one batch in, one prediction out.

Memory does not grow with the number of passes, unless every pass is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.groups import PassGroups
from mcdrop._engine.jackknife import jackknife
from mcdrop._engine.linearization import LinearPart
from mcdrop._engine.moments import Moments, accumulation_dtype
from mcdrop._engine.outputs import check_rows_finite
from mcdrop._tasks.class_maps import ClassMaps
from mcdrop._tasks.controlled_classes import ControlledClasses
from mcdrop._tasks.likelihoods import (
    OutputType,
    check_classes,
    class_distributions,
    class_probabilities,
    class_scores,
)
from mcdrop._tasks.tails import Tails
from mcdrop._tasks.tiles import in_tiles, is_large
from mcdrop._tasks.widths import HALF_WIDTH, std_shift
from mcdrop.prediction.classification import ClassificationPrediction, entropy

__all__ = [
    "Accumulator",
    "ClassificationAccumulator",
    "SampleAccumulator",
    "extremes",
    "joined_samples",
    "numbered",
    "result_dtype",
]

Result_co = TypeVar("Result_co", covariant=True)


class Accumulator(Protocol[Result_co]):
    """Receives the passes of one batch, chunk by chunk."""

    def update(self, chunk: Tensor, linear: LinearPart | None = None) -> None:
        """Add outputs of shape (s, n, ...), with their linear part where that is known."""

    def rows(self, rows: Tensor) -> Self:
        """Return an accumulator that has seen the same passes of some rows."""

    def result(self) -> Result_co:
        """Return the result for the batch."""


# Probabilities below this do not matter, and their cubes are within the range of float32.
_LEAST_CUBED = 1e-12


class SampleAccumulator:
    """Keeps every pass of a batch.

    Args:
        function: Public function to name in errors.
        first_row: Number of the batch's first row among all inputs.
    """

    def __init__(self, function: str, first_row: int) -> None:
        self._function = function
        self._first_row: int | Tensor = first_row
        self._chunks: list[Tensor] = []

    def update(self, chunk: Tensor, linear: LinearPart | None = None) -> None:
        """Add passes, (s, n, ...)."""
        check_rows_finite(self._function, extremes(chunk), self._first_row)
        self._chunks.append(chunk)

    def rows(self, rows: Tensor) -> Self:
        """Return an accumulator that has seen the same passes of some rows."""
        part = copy(self)
        part._first_row = numbered(self._first_row, rows)
        part._chunks = [chunk[:, rows] for chunk in self._chunks]
        return part

    def result(self) -> Tensor:
        """Return all passes, (S, n, ...)."""
        return torch.cat(self._chunks)


class ClassificationAccumulator:
    """Accumulates class probabilities, entropies and votes.

    Args:
        function: Public function to name in errors.
        first_row: Number of the batch's first row among all inputs.
        keep_samples: Whether the prediction holds every pass.
        groups: Groups of passes for the jackknife.
        output_type: Kind of number that the model returns.
        binary: Whether the output is one number per row, for class 1 of two.
        multilabel: Whether the output is one such number for each of L labels.
        redrawn: Whether every pass holds several draws of its last mask, whose average is then the
            value of the pass (Rao-Blackwell), while their spread adds to the variance.
    """

    def __init__(
        self,
        function: str,
        first_row: int,
        keep_samples: bool,
        groups: PassGroups,
        *,
        output_type: OutputType,
        binary: bool = False,
        multilabel: bool = False,
        redrawn: bool = False,
    ) -> None:
        self._function = function
        self._first_row: int | Tensor = first_row
        self._output_type = output_type
        self._binary = binary or multilabel
        self._multilabel = multilabel
        self._samples: list[Tensor] | None = [] if keep_samples else None
        self._moments = Moments(groups)
        self._entropies = Moments(groups)
        self._tails = Tails(probabilities=True)
        self._redrawn = redrawn
        self._within = Moments(groups)
        self._draw_tails = Tails(probabilities=True)
        self._controlled: ControlledClasses | None = None
        self._maps: ClassMaps | None = None
        self._groups = groups
        self._votes: Tensor | None = None
        self._dtype = torch.float32

    def update(self, chunk: Tensor, linear: LinearPart | None = None) -> None:
        """Add passes: (s, n, C, ...); (s, n) or (s, n, 1) if binary; (s, n, L) if multilabel.

        With redrawn masks, these are the last dimension from 1 on: (s, n, ..., 1 + redraws). The
        linear part, where that is the control variate, is that of `class_scores`.
        """
        n_passes = len(chunk)
        if self._redrawn:
            chunk = chunk[..., 1:].movedim(-1, 1).flatten(0, 1)
        self._dtype = result_dtype(chunk)
        is_plain = linear is None and not self._redrawn
        if self._maps is not None or (is_plain and is_large(chunk, n_passes)):
            self._add_to_maps(chunk)
            return
        check_rows_finite(self._function, extremes(chunk), self._first_row)
        wide = chunk.to(accumulation_dtype(chunk.device))
        probs, entropies = class_distributions(
            self._function,
            wide,
            self._output_type,
            binary=self._binary,
            multilabel=self._multilabel,
        )
        if linear is None:
            self._add(probs, entropies, n_passes)
        else:
            if self._controlled is None:
                self._controlled = ControlledClasses(self._binary, self._multilabel)
            scores = class_scores(wide, self._output_type, binary=self._binary)
            self._controlled.update(scores, probs, entropies, linear, n_passes)
        if self._votes is None:
            self._votes = torch.zeros_like(probs[0], dtype=torch.int64)
        # `argmax` takes up to 15 times as long.
        labels = probs.max(dim=2).indices.movedim(0, 1)
        self._votes.scatter_add_(1, labels, torch.ones_like(labels))
        if self._samples is not None:
            self._samples.append(probs.to(self._dtype))

    def _add_to_maps(self, chunk: Tensor) -> None:
        """Add passes of a large output, as they came."""
        # A sum is finite only if all numbers are; finite ones may overflow.
        if not math.isfinite(chunk.sum(dtype=self._dtype).item()):
            check_rows_finite(self._function, extremes(chunk), self._first_row)
        given = {"binary": self._binary, "multilabel": self._multilabel}
        # Logits have only to differ from probabilities in one pass.
        if self._maps is None or self._output_type != "logits":
            check_classes(self._function, chunk, self._output_type, **given)
        if self._maps is None:
            output_type = "logits" if self._binary else self._output_type
            self._maps = ClassMaps(self._groups, output_type, self._dtype, two_class=self._binary)
        if self._samples is not None:
            wide = chunk.to(accumulation_dtype(chunk.device))
            probs = class_probabilities(self._function, wide, self._output_type, **given)
            self._samples.append(probs.to(self._dtype))
        if self._binary and self._output_type != "logits":
            chunk = class_scores(chunk.double(), self._output_type, binary=True).to(self._dtype)
        if self._binary and not self._multilabel:
            chunk = chunk.flatten(1)
        self._maps.update(chunk)

    def _add(self, probs: Tensor, entropies: Tensor, n_passes: int) -> None:
        """Add probabilities, (n_passes * draws, n, C, ...), and their entropies."""
        means = probs
        if self._redrawn:
            by_pass = probs.unflatten(0, (n_passes, -1))
            means = by_pass.mean(dim=1)
            entropies = entropies.unflatten(0, (n_passes, -1)).mean(dim=1)
            # `var` takes ten times as long.
            self._within.update((by_pass - means.unsqueeze(1)).square_().mean(dim=1))
            self._draw_tails.update(probs)
        self._moments.update(means)
        self._entropies.update(entropies, beside=means[0].numel())
        self._tails.update(means)

    def rows(self, rows: Tensor) -> Self:
        """Return an accumulator that has seen the same passes of some rows."""
        part = self._part(rows)
        if self._controlled is not None:
            part._controlled = self._controlled.rows(rows)
        if self._maps is not None:
            part._maps = self._maps.rows(rows)
        return part

    def _part(self, rows: Tensor | slice, *places: slice) -> Self:
        """Return an accumulator that has seen the same passes of some rows and places."""
        part, of_classes = copy(self), (rows, slice(None), *places)
        part._first_row = numbered(self._first_row, rows)
        if self._controlled is None and self._maps is None:
            part._moments = self._moments.part(*of_classes)
            part._entropies = self._entropies.part(rows, *places)
            part._tails = self._tails.part(*of_classes)
            if self._redrawn:
                part._within = self._within.part(*of_classes)
                part._draw_tails = self._draw_tails.part(*of_classes)
        part._votes = None if self._votes is None else self._votes[of_classes]
        if self._samples is not None:
            part._samples = [chunk[:, rows] for chunk in self._samples]
        return part

    def result(self) -> ClassificationPrediction:
        """Return the prediction for the batch."""
        if self._maps is not None:
            samples = None if self._samples is None else torch.cat(self._samples)
            return replace(self._maps.prediction(), samples=samples)
        if self._votes is None:
            raise RuntimeError("ClassificationAccumulator.result: no passes have been added")
        if self._controlled is not None or self._samples is not None or not is_large(self._votes):
            return self._result(self._votes)
        whole = self._votes

        def of_tile(rows: slice, places: slice) -> ClassificationPrediction:
            some = (rows, slice(None), places)[: whole.ndim]
            return self._part(rows, *some[2:])._result(whole[some])

        return in_tiles(whole, 2, of_tile)

    def _result(self, votes_of: Tensor) -> ClassificationPrediction:
        votes = 1 - votes_of.amax(dim=1) / votes_of.sum(dim=1)
        samples = None if self._samples is None else torch.cat(self._samples)
        if self._controlled is not None:
            return self._controlled.prediction(votes, samples, self._dtype)
        probs, variance, count = self._moments.mean, self._moments.variance, self._moments.count
        # E[H(p)] <= H(E[p]) by Jensen; rounding must not break it.
        total = entropy(probs)
        expected = torch.minimum(self._entropies.mean, total)
        sizes, probs_without, variances_without = self._moments.without_each()
        total_without = entropy(probs_without, dim=2)
        _, expected_without, _ = self._entropies.without_each()

        stds_without = variances_without.sqrt()
        missed = self._tails.missed(probs)
        if self._redrawn:
            # The law of total variance, over the masks of the last dropout and all others.
            variance = variance + self._within.mean
            stds_without = (variances_without + self._within.without_each()[1]).sqrt()
            missed = missed.or_more(self._draw_tails.missed(probs))
        shift = missed.mean * self._moments.nonlinear_share.sqrt()
        if missed.divergence is None:
            raise RuntimeError("ClassificationAccumulator.result: tails of no probabilities")

        def error(whole: Tensor, without_each: Tensor, shift: Tensor) -> Tensor:
            spread = jackknife(whole, without_each, sizes)
            return torch.maximum(spread, shift / HALF_WIDTH).to(self._dtype)

        # Classes are taken to be independent: their rare passes are different ones.
        divergence = missed.divergence.square().sum(dim=1).sqrt()
        return ClassificationPrediction(
            probs=probs.to(self._dtype),
            probs_std=variance.sqrt().to(self._dtype),
            expected_entropy=expected.to(self._dtype),
            variation_ratio=votes.to(self._dtype),
            mcse=torch.maximum(self._moments.mean_error, shift / HALF_WIDTH).to(self._dtype),
            probs_std_mcse=error(
                stds_without.mean(dim=0), stds_without, std_shift(variance, missed.variance)
            ),
            predictive_entropy_mcse=error(total, total_without, _entropy_shift(probs, shift)),
            mutual_information_mcse=error(
                total - expected, total_without - expected_without, divergence
            ),
            mutual_information_bias=_entropy_bias(self._moments).to(self._dtype),
            n_samples=count,
            samples=samples,
        )


def _entropy_bias(moments: Moments) -> Tensor:
    """Return E[H(mean)] - H(E[mean]) by the delta method, for means over passes (n, C, ...).

    To second order it is -sum_c Var(mean_c) / (2 p_c). Passes on a grid also tell the third order.
    With -p log p expanded around the mean m, and unbiased estimates of p^2 and p^3 in place of
    those powers, the expectation of the sum is that of p = E[m] up to terms of the fourth order.
    """
    mean = moments.mean
    if not moments.on_grid:
        safe = mean.clamp_min(torch.finfo(mean.dtype).tiny)
        return -(moments.variance_of_mean / safe).sum(dim=1) / 2
    safe = mean.clamp_min(_LEAST_CUBED)
    square, cube = (power / safe**k for k, power in enumerate(moments.powers_of_mean(), 2))
    second, third = (square - 1) / 2, (cube - 3 * square + 2) / 6
    return (mean * (second - third)).sum(dim=1)


def _entropy_shift(probs: Tensor, missed: Tensor) -> Tensor:
    """Return how much the entropy changes if less likely classes take from the most likely one."""
    top = probs.amax(dim=1, keepdim=True)
    raised = (probs + missed).clamp_max(1)
    # The derivative of -p log p is -(log p + 1).
    change = torch.special.xlogy(probs, probs) - torch.special.xlogy(raised, raised)
    change += (raised - probs) * (top.log() + 1)
    return torch.where(probs == top, 0, change).square().sum(dim=1).sqrt()


def joined_samples(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate the passes over successive batches along the rows, (S, N, ...)."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


def extremes(chunk: Tensor) -> Tensor:
    """Return what is finite iff all passes are: half of each extreme, so that no sum overflows."""
    return chunk.amax(dim=0) / 2 + chunk.amin(dim=0) / 2


def numbered(first_row: int | Tensor, rows: Tensor | slice) -> int | Tensor:
    """Return the numbers, among all inputs, of some rows of a batch; of a slice, the first's."""
    if isinstance(rows, slice):
        return first_row[rows] if isinstance(first_row, Tensor) else first_row + rows.start
    return first_row[rows] if isinstance(first_row, Tensor) else first_row + rows


def result_dtype(chunk: Tensor) -> torch.dtype:
    """Return the type of the results: float64 for float64 models, float32 for all others."""
    return torch.float64 if chunk.dtype == torch.float64 else torch.float32
