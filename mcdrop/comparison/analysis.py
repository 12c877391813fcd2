"""From the scores of every method and split to intervals, paired differences and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from mcdrop.comparison.paired import (
    PairedDifference,
    resampled_difference,
    resampled_interval,
    t_p_value,
)
from mcdrop.comparison.scores import MEASURES, SplitScore
from mcdrop.metrics import Estimate, bootstrap, holm, paired_bootstrap
from mcdrop.metrics.means import mean_estimate

__all__ = ["Analysis", "Scores", "loss_difference", "mean_ranks", "pairwise_p_values"]

# Scores of one method and measure, one per split.
Scores = Sequence[SplitScore]


@dataclass(frozen=True)
class Analysis:
    """How scores over splits become numbers with intervals.

    Attributes:
        test_share: Test rows for each training row.
        level: Coverage of all intervals.
        seed: Seed of the resamples of a single split.
    """

    test_share: float
    level: float
    seed: int

    def estimate(self, key: str, scores: Scores) -> Estimate:
        """Estimate a score: over splits, or over the rows of a single one."""
        if len(scores) > 1:
            values = [score.value for score in scores]
            found = resampled_interval(values, self.test_share, level=self.level)
            if not MEASURES[key].is_share:
                return found
            return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))
        (only,) = scores
        return bootstrap(only.metric, *only.arrays, level=self.level, seed=self.seed)

    def difference(self, a: Scores, b: Scores) -> PairedDifference:
        """Compare two methods on the same splits, or on the rows of a single one."""
        if len(a) > 1:
            first, second = ([score.value for score in scores] for scores in (a, b))
            return resampled_difference(first, second, self.test_share, level=self.level)
        (one,), (other,) = a, b
        estimate = paired_bootstrap(
            one.metric, one.arrays, other.arrays, level=self.level, seed=self.seed
        )
        if one.losses is None or other.losses is None:
            return PairedDifference(estimate, 1.0)
        tested = loss_difference([one.losses], [other.losses], self.test_share, self.level)
        return PairedDifference(estimate, tested.p_value)


def loss_difference(
    a: Sequence[Tensor], b: Sequence[Tensor], test_share: float, level: float
) -> PairedDifference:
    """Compare mean losses over splits, or over the rows of a single one by Student's t-test."""
    if len(a) > 1:
        first, second = ([float(losses.mean()) for losses in several] for several in (a, b))
        return resampled_difference(first, second, test_share, level=level)
    rows = (a[0] - b[0]).numpy()
    estimate = mean_estimate(rows, level)
    # Equal differences in all rows tell nothing about their spread.
    flat = float(np.ptp(rows)) <= 1e-12 * float(np.abs(rows).max())
    return PairedDifference(estimate, 1.0 if flat else t_p_value(estimate, len(rows)))


def identical(a: Scores, b: Scores) -> bool:
    """Whether two methods have the same losses in every row of every split."""
    return all(
        x.losses is not None and y.losses is not None and torch.equal(x.losses, y.losses)
        for x, y in zip(a, b, strict=True)
    )


def pairwise_p_values(
    methods: Mapping[str, Scores], analysis: Analysis
) -> dict[tuple[str, str], float]:
    """Test all pairs of methods by one measure; p-values adjusted together (Holm)."""
    pairs = list(combinations(methods, 2))
    if not pairs:
        return {}
    found = [analysis.difference(methods[a], methods[b]).p_value for a, b in pairs]
    return dict(zip(pairs, holm(found).tolist(), strict=True))


def mean_ranks(methods: Mapping[str, Scores], key: str) -> dict[str, float]:
    """Return the mean over splits of the rank of each method; 1 is best, ties share the mean."""
    from scipy.stats import rankdata

    if not methods:
        return {}
    sign = -1 if MEASURES[key].better == "higher" else 1
    values = np.array([[sign * score.value for score in scores] for scores in methods.values()])
    return dict(zip(methods, rankdata(values, axis=0).mean(axis=1).tolist(), strict=True))
