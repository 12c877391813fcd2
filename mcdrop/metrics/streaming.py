"""Metrics over data larger than memory: update with batches, compute at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mcdrop.errors import ShapeError, UnsupportedError
from mcdrop.metrics._arrays import Float64, row_means, tensor_of
from mcdrop.metrics._reduction import Reduction, ratio, reduction_of


class Streaming:
    """A metric fed in batches, whose result equals the one-shot form on all rows.

    Predictions are reduced as they come. Scores per row, errors, and everything in bins of
    equal width keep a few sums, however many rows there are. What needs the order of the rows
    (bins of equal mass, AURC, AUROC, ENCE, UCE, PIT tests) keeps two or three numbers per row
    in place of its predictions. A score per row gives its mean.

    Args:
        metric: A function of this package.
        **options: Its options, the same for every batch.

    Source:
        The one-shot functions, which finish the same sums.

    Example:
        >>> from mcdrop.metrics import rmse
        >>> stream = Streaming(rmse)
        >>> stream.update([1.0], [0.0])
        >>> stream.update([7.0], [0.0])
        >>> stream.compute()  # sqrt((1 + 49) / 2)
        5.0
    """

    def __init__(self, metric: Callable[..., Any], **options: Any) -> None:
        self._metric = metric
        self._options = options
        self._last: Reduction[Any] | None = None
        self._kept: list[Float64] = []

    def update(self, *arrays: Any, **row_options: Any) -> None:
        """Add a batch of rows.

        Args:
            *arrays: What the metric takes, for the rows of this batch.
            **row_options: Options that have one value per row, such as `weights`.

        Raises:
            McdropError: What the metric raises on these arrays; the stream is then unchanged.
            UnsupportedError: If the metric is not one that can be streamed.
        """
        batch = self._reduce(arrays, {**self._options, **row_options})
        self._add(batch, [batch.kept])

    def merge(self, other: Streaming) -> None:
        """Add the rows that another stream of the same metric and options has seen.

        Args:
            other: A stream, for example of another process.

        Raises:
            UnsupportedError: If the metric or its options differ.
        """
        if other._metric is not self._metric or other._options != self._options:
            raise UnsupportedError.of(
                "Streaming.merge",
                "other",
                f"stream {self._name} with the same options",
                f"{other._name} with {other._options}",
                "Merge streams of one metric",
            )
        if other._last is not None:
            self._add(other._last, other._kept)

    def compute(self) -> Any:
        """Finish the metric on all rows seen so far; more updates may follow.

        Returns:
            What the metric returns; for a score per row, the mean over rows.

        Raises:
            ShapeError: If there was no update yet.
        """
        if self._last is None:
            raise ShapeError.of(
                "Streaming.compute", "rows", "be at least one", "no update", "Call update first"
            )
        if len(self._kept) > 1:
            self._kept = [np.concatenate(self._kept, axis=-1)]
        return self._last.finish(self._kept[0])

    @property
    def _name(self) -> str:
        return str(getattr(self._metric, "__name__", self._metric))

    def _add(self, batch: Reduction[Any], kept: list[Float64]) -> None:
        if self._kept and not batch.fits(self._kept[0]):
            remedy = "Give every batch the same number of classes"
            raise ShapeError.of(
                "Streaming.update", "arrays", "be like the first batch", "other columns", remedy
            )
        self._kept = (
            [self._kept[0] + kept[0]] if batch.additive and self._kept else [*self._kept, *kept]
        )
        self._last = replace(batch, row_mean=None)

    def _reduce(self, arrays: tuple[Any, ...], options: dict[str, Any]) -> Reduction[Any]:
        reduce = reduction_of(self._metric)
        if reduce is not None:
            return reduce(*arrays, **options)
        scores = self._metric(*arrays, **options)
        if not isinstance(scores, torch.Tensor | np.ndarray) or scores.ndim == 0:
            raise UnsupportedError.of(
                "Streaming",
                "metric",
                "score every row, or be a summary of mcdrop.metrics",
                f"{self._name}, which returned {type(scores).__name__}",
                "Pass the function itself and its options as keywords",
            )
        rows = row_means(tensor_of(scores).detach().double())
        return Reduction(np.array([float(rows.sum()), float(len(rows))]), ratio)
