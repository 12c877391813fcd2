"""Split conformal prediction sets for a classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from mcdrop.checks import (
    require_choice,
    require_count,
    require_finite,
    require_fitted,
    require_unit,
)
from mcdrop.errors import RangeError, ShapeError
from mcdrop.prediction import ClassificationPrediction
from mcdrop.recalibration._matched import (
    labels_of,
    require_classes,
    require_classification,
)
from mcdrop.recalibration._row_uniforms import row_uniforms
from mcdrop.recalibration._split import Groups, RankedScores, sorted_scores, thresholds

__all__ = ["ConformalClassificationPrediction", "ConformalClassifier"]

SetMethod = Literal["lac", "aps", "raps"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ConformalClassificationPrediction(ClassificationPrediction):
    """A classification with prediction sets from calibration scores; all else is the model's.

    Attributes:
        class_scores: Score that each class would have as the label, (N, C), float64.
        group: Index of each row's group in `group_names`, (N,).
        scores: Calibration scores by group and ascending rank.
        group_names: The groups of the calibration; one, "all", if none were named.
        level: Level given to the classifier, at which `set_size` is taken.
        method: "lac", "aps" or "raps".
    """

    _derived: ClassVar[tuple[str, ...]] = (*ClassificationPrediction._derived, "set_size")

    class_scores: Tensor
    group: Tensor
    scores: RankedScores
    group_names: Sequence[str]
    level: float
    method: SetMethod

    @property
    def set_size(self) -> Tensor:
        """Number of classes in the prediction set at the fitted level, (N,), int64."""
        return self.prediction_sets(self.level).sum(dim=1)

    def prediction_sets(self, level: float = 0.9) -> Tensor:
        """Set of classes that holds the label with probability at least `level`, for any model.

        The probability is over calibration and new rows together, if they are exchangeable within
        a group. Sets grow with the level. Where every class scores above the threshold the set is
        empty: with "lac" if no class is probable enough, with "aps" if U is large in a row where
        one class has nearly all of the probability.

        Args:
            level: Probability that the label is in the set, in (0, 1).

        Returns:
            True for the classes in the set, (N, C).

        Raises:
            RangeError: If `level` lies outside (0, 1), or needs more calibration rows.

        Example:
            >>> p = ClassificationPrediction(
            ...     probs=torch.tensor([[0.9, 0.1], [0.6, 0.4]]), probs_std=torch.zeros(2, 2),
            ...     expected_entropy=torch.zeros(2), variation_ratio=torch.zeros(2),
            ...     mcse=torch.zeros(2, 2), n_samples=0)
            >>> conformal = ConformalClassifier(level=0.6).fit(p, [0, 1])
            >>> conformal(p).prediction_sets(0.6)  # scores 0.1 and 0.6: rank ceil(3 * 0.6) = 2
            tensor([[ True, False],
                    [ True,  True]])
        """
        function = "ConformalClassificationPrediction.prediction_sets"
        require_unit(function, "level", level)
        limits = thresholds(function, "prediction", self.scores, self.group_names, level)
        return self.class_scores <= limits.to(self.group.device)[self.group]

    def __repr__(self) -> str:
        """Return one line: the fields, the method and what it was calibrated on."""
        rows = sum(len(group[0]) for group in self.scores)
        return (
            f"ConformalClassificationPrediction({super().__repr__()}, {self.method}, "
            f"{rows} calibration rows, groups: {', '.join(self.group_names)})"
        )


class ConformalClassifier:
    """Prediction sets with a finite-sample guarantee, from the scores of held-out labels.

    The score of class c in a row, small where the class fits; r is the rank of c by probability,
    1 for the most probable, and U uniform on [0, 1), one per row:

    - "lac": 1 - p_c. Smallest sets on average; hard rows may get none.
    - "aps": sum of the probabilities above p_c, plus U p_c. Sets adapt to the row.
    - "raps": that plus penalty max(0, r - n_free). Fewer classes from the tail.

    U is a hash of the row's probabilities and the seed, the same in `fit` and in every call. So
    the score is one fixed function of probabilities and label, which is all that the guarantee
    needs: it holds for rows passed one by one, in batches or at once, and for every seed.

    A class is in the set if its score is at most t, the k-th smallest of the n scores of the
    calibration labels, k = ceil((n + 1) level). For exchangeable rows the label is then in the set
    with probability at least level, and below level + 1 / (n + 1) without ties. With `groups`
    this holds in each group.

    Args:
        method: "lac", "aps" or "raps".
        level: Probability that the label is in the set; `fit` makes sure it can be guaranteed.
        penalty: Added per rank beyond `n_free` by "raps", at least 0.
        n_free: Ranks that "raps" does not penalize.
        seed: Seed of the hash that gives U, a whole number of at least 0. Rows of equal
            probabilities share U: where there are many, scores tie and sets may cover more than
            asked, never less. None puts U at 1: larger sets, the same guarantee from below.

    Source:
        LAC: Sadinle, Lei & Wasserman (2019); APS: Romano, Sesia & Candes (2020); RAPS:
        Angelopoulos et al. (2021); groups: Vovk, Gammerman & Shafer (2005), section 4.5.

    Example:
        >>> p = ClassificationPrediction(
        ...     probs=torch.tensor([[0.6, 0.3, 0.1]]).repeat(3, 1), probs_std=torch.zeros(3, 3),
        ...     expected_entropy=torch.zeros(3), variation_ratio=torch.zeros(3),
        ...     mcse=torch.zeros(3, 3), n_samples=0)
        >>> conformal = ConformalClassifier("aps", level=0.5, seed=None).fit(p, [0, 0, 1])
        >>> conformal(p[0]).prediction_sets(0.5)  # scores 0.6, 0.6, 0.9: rank ceil(4 * 0.5) = 2
        tensor([[ True, False, False]])
    """

    def __init__(
        self,
        method: SetMethod = "lac",
        level: float = 0.9,
        *,
        penalty: float = 0.01,
        n_free: int = 1,
        seed: int | None = 0,
    ) -> None:
        function = "ConformalClassifier"
        require_choice(function, "method", method, ("lac", "aps", "raps"))
        require_unit(function, "level", level)
        require_count(function, "n_free", n_free, least=0)
        if seed is not None:
            require_count(function, "seed", seed, least=0)
        if not 0 <= penalty < np.inf:
            raise RangeError.of(
                function, "penalty", "be a finite number of at least 0", penalty, "Pass 0.01"
            )
        self.method: SetMethod = method
        self.level = level
        self.penalty = penalty
        self.n_free = n_free
        self.seed = seed
        self._groups: Groups | None = None
        self._scores: RankedScores = ()
        self._n_classes = 0

    @property
    def threshold(self) -> Tensor:
        """The quantile t of the calibration scores at `level`, (groups, 1), float64."""
        function = "ConformalClassifier.threshold"
        known = require_fitted(function, self._groups, "prediction, y")
        return thresholds(function, "level", self._scores, known.names, self.level)

    def fit(
        self, prediction: ClassificationPrediction, y: Any, *, groups: Any = None
    ) -> ConformalClassifier:
        """Score the labels of held-out rows, and return the classifier.

        Args:
            prediction: For rows that neither the model nor a recalibration before was fitted on;
                probabilities of shape (N, C).
            y: Integer labels, shape (N,).
            groups: One label per row, (N,): integers or strings. Each group is calibrated alone;
                ``groups=y`` is not possible, as new labels are unknown.

        Raises:
            UnsupportedError: If `prediction` is not a classification.
            ShapeError: If `y` or `groups` does not match, or probabilities are not (N, C).
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a label is no class, or a group has too few rows for the level.
        """
        function = "ConformalClassifier.fit"
        _require_rows_of_classes(function, prediction)
        labels = labels_of(function, prediction, y)
        scores = self._class_scores(prediction.probs).gather(1, labels.unsqueeze(1))
        found = Groups(function, groups, len(labels))
        ranked = sorted_scores(scores, found)
        thresholds(function, "y", ranked, found.names, self.level)
        self._groups, self._scores = found, ranked
        self._n_classes = prediction.probs.shape[1]
        return self

    def __call__(
        self, prediction: ClassificationPrediction, *, groups: Any = None
    ) -> ConformalClassificationPrediction:
        """Return the prediction with conformal prediction sets.

        Args:
            prediction: Any rows, with the classes of the fit.
            groups: One label per row, (N,), of groups seen in the fit; None if it had none.

        Raises:
            UnsupportedError: If `fit` has not run, or the prediction is no classification.
            ShapeError: If classes or groups do not match.
            NonFiniteError: If a probability is NaN or infinite.
            RangeError: If a group is unknown.
        """
        function = "ConformalClassifier"
        known = require_fitted(function, self._groups, "prediction, y")
        _require_rows_of_classes(function, prediction)
        require_classes(function, prediction, self._n_classes)
        require_finite(function, prediction=prediction.probs)
        plain = {f.name: getattr(prediction, f.name) for f in fields(ClassificationPrediction)}
        return ConformalClassificationPrediction(
            **plain,
            class_scores=self._class_scores(prediction.probs),
            group=known.index(function, groups, len(prediction)).to(prediction.probs.device),
            scores=self._scores,
            group_names=known.names,
            level=self.level,
            method=self.method,
        )

    def _class_scores(self, probs: Tensor) -> Tensor:
        """Return the score of every class, (N, C), float64."""
        probs = probs.double()
        if self.method == "lac":
            return 1 - probs
        place = torch.ones(1, dtype=torch.float64, device="cpu")
        if self.seed is not None:
            place = row_uniforms(probs, self.seed)
        ordered, classes = probs.sort(dim=1, descending=True, stable=True)
        scores = ordered.cumsum(dim=1) - (1 - place.to(probs.device)) * ordered
        if self.method == "raps":
            ranks = torch.arange(1, probs.shape[1] + 1, device=probs.device)
            scores = scores + self.penalty * (ranks - self.n_free).clamp_min(0)
        return torch.empty_like(scores).scatter_(1, classes, scores)


def _require_rows_of_classes(function: str, prediction: object) -> None:
    """Require a classification with one label per row."""
    require_classification(function, prediction, plain=False)
    if isinstance(prediction, ClassificationPrediction) and prediction.probs.ndim != 2:
        raise ShapeError.of(
            function,
            "prediction",
            "have class probabilities of shape (N, C), because rows are the exchangeable units",
            tuple(prediction.probs.shape),
            "Calibrate one label of each row at a time",
        )
