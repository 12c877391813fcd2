"""What a comparison found, and what follows: winners, and sizes of ensembles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mcdrop.checks import require_choice
from mcdrop.comparison.analysis import loss_difference
from mcdrop.comparison.equivalent import EnsembleEquivalent, deep_ensemble_equivalent
from mcdrop.comparison.paired import PairedDifference
from mcdrop.comparison.scores import MEASURES
from mcdrop.errors import UnsupportedError
from mcdrop.metrics import Estimate

__all__ = ["ComparisonContents", "Outcome"]

Outcome = Literal["better", "worse", "undecided", "identical", "descriptive"]


@dataclass(frozen=True, eq=False, repr=False)
class ComparisonContents:
    """Scores of several methods on the same test rows.

    Attributes:
        task: "regression" or "classification".
        methods: Names, the reference first.
        n_rows: Rows of the table.
        n_splits: Splits, J.
        test_share: Test rows for each training row.
        level: Coverage of all intervals; verdicts share the level 1 - `level`.
        metrics: Method -> measure -> score with its interval. What a method does not state, such
            as the density of a point forecast, is left out.
        differences: Method -> measure -> method minus reference, paired.
        adjusted: Method -> measure -> p-value adjusted for all verdicts (Holm).
        outcomes: Method -> measure -> "better" or "worse" than the reference, "undecided",
            "identical" in every row, or "descriptive" for what is not judged.
        pairs: Measure -> (method, method) -> p-value adjusted over all pairs (Holm).
        ranks: Method -> measure -> mean rank over splits; 1 is best.
        seconds: Method -> mean wall time of fit and prediction of one split.
        losses: Method -> measure -> loss of each test row, one tensor per split.
        ensemble: Measure -> size -> losses of a deep ensemble of that many networks, per split;
            empty if no `DeepEnsemble` took part.
    """

    task: str
    methods: tuple[str, ...]
    n_rows: int
    n_splits: int
    test_share: float
    level: float
    metrics: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, PairedDifference]]
    adjusted: Mapping[str, Mapping[str, float]]
    outcomes: Mapping[str, Mapping[str, Outcome]]
    pairs: Mapping[str, Mapping[tuple[str, str], float]]
    ranks: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]
    losses: Mapping[str, Mapping[str, tuple[Tensor, ...]]]
    ensemble: Mapping[str, tuple[tuple[Tensor, ...], ...]]

    @property
    def reference(self) -> str:
        """Name of the method that all others are compared with."""
        return self.methods[0]

    @property
    def measures(self) -> tuple[str, ...]:
        """Keys of the measures that any method has."""
        return tuple(key for key in MEASURES if any(key in m for m in self.metrics.values()))

    def winner(self, metric: str) -> str | None:
        """Name the method that is better than every other one, or None within the noise.

        Args:
            metric: A measure that is judged, such as "nll".

        Returns:
            The only method that beats all others by paired tests at the level 1 - `level`,
            adjusted over all pairs of methods; else None.

        Raises:
            RangeError: If `metric` is not a measure that is judged here.
        """
        leaders = self.leaders(metric)
        names = [name for name in self.methods if metric in self.metrics[name]]
        if len(names) < 2 or len(leaders) > 1:
            return None
        (first,) = leaders
        return first if all(self._beats(first, b, metric) for b in names if b != first) else None

    def leaders(self, metric: str) -> tuple[str, ...]:
        """Name the methods that no other is shown to beat.

        Args:
            metric: A measure that is judged, such as "nll".

        Raises:
            RangeError: If `metric` is not a measure that is judged here.
        """
        require_choice("Comparison", "metric", metric, list(self.pairs))
        names = [name for name in self.methods if metric in self.metrics[name]]
        return tuple(a for a in names if not any(self._beats(b, a, metric) for b in names))

    def _beats(self, a: str, b: str, metric: str) -> bool:
        """Whether `a` has the better score and the test says that they differ."""
        pairs = self.pairs[metric]
        p = pairs.get((a, b), pairs.get((b, a), 1.0))
        first, second = self.metrics[a][metric].value, self.metrics[b][metric].value
        ahead = first > second if MEASURES[metric].better == "higher" else first < second
        return ahead and p <= 1 - self.level

    def ensemble_equivalent(self, method: str, metric: str = "nll") -> EnsembleEquivalent:
        """Say how many networks a deep ensemble needs to score like a method.

        Args:
            method: Name of the method.
            metric: "nll", "crps" or "brier".

        Returns:
            The size, with the range of sizes that the paired test cannot tell from the method.

        Raises:
            UnsupportedError: If no `DeepEnsemble` took part, or the method has no such score.
            RangeError: If there is no such method.

        Source:
            Ashukha et al. (2020), section 4.1.
        """
        function = "Comparison.ensemble_equivalent"
        require_choice(function, "method", method, self.methods)
        if metric not in self.ensemble or metric not in self.losses[method]:
            raise UnsupportedError.of(
                function,
                "metric",
                f"be a score of {method} and of a DeepEnsemble",
                f"{metric!r}; there are {', '.join(self.ensemble) or 'none'}",
                'Compare with methods={"Deep ensemble": DeepEnsemble(), ...}',
            )
        own, curve = self.losses[method][metric], self.ensemble[metric]
        means = [sum(float(x.mean()) for x in losses) / len(losses) for losses in curve]
        value = deep_ensemble_equivalent(sum(float(x.mean()) for x in own) / len(own), means)
        alike = [
            size
            for size, losses in enumerate(curve, 1)
            if loss_difference(own, losses, self.test_share, self.level).p_value > 1 - self.level
        ]
        low, high = (min(alike), max(alike)) if alike else (math.nan, math.nan)
        return EnsembleEquivalent(value, low, high, len(curve))

    def __repr__(self) -> str:
        """Return one line: methods, splits and winners."""
        found = {key: self.winner(key) for key in self.pairs}
        told = ", ".join(
            f"{MEASURES[key].label}: {name or 'no winner'}" for key, name in found.items()
        )
        return f"Comparison({len(self.methods)} methods, {self.n_splits} splits; {told})"
