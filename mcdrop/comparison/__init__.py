"""Methods on the same splits: scores with intervals, paired differences, ranks, wall time."""

from mcdrop.comparison.compare import compare
from mcdrop.comparison.equivalent import EnsembleEquivalent, deep_ensemble_equivalent
from mcdrop.comparison.paired import PairedDifference, resampled_difference, resampled_interval
from mcdrop.comparison.result import Comparison

__all__ = [
    "Comparison",
    "EnsembleEquivalent",
    "PairedDifference",
    "compare",
    "deep_ensemble_equivalent",
    "resampled_difference",
    "resampled_interval",
]
