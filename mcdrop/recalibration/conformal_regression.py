"""Split conformal intervals for a regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from mcdrop.checks import require_choice, require_fitted, require_unit
from mcdrop.prediction import RegressionPrediction
from mcdrop.recalibration._interval_scores import (
    METHODS,
    IntervalMethod,
    moved_ends,
    score_base,
    scores_of,
)
from mcdrop.recalibration._matched import (
    require_regression,
    require_row_shape,
    targets_of,
)
from mcdrop.recalibration._split import Groups, RankedScores, sorted_scores, thresholds

__all__ = ["ConformalRegressionPrediction", "ConformalRegressor"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ConformalRegressionPrediction(RegressionPrediction):
    """A regression whose intervals come from calibration scores; all else is the model's.

    ``interval(level)`` is [base_lower - t score_scale, base_upper + t score_scale], where t is
    the finite-sample quantile of the calibration scores of the row's group. `mean`, `variance`,
    `quantile` and `log_prob` remain what the model says and carry no guarantee.

    Attributes:
        base_lower: Lower end that scores are measured from, shape of `mean`: the mean itself, or
            the model's own interval at `level` for method "quantile".
        base_upper: Upper end likewise.
        score_scale: Units of y per unit of score, shape of `mean`.
        group: Index of each row's group in `group_names`, (N,).
        scores: Calibration scores by group, output and ascending rank.
        group_names: The groups of the calibration; one, "all", if none were named.
        level: Level given to the regressor, at which `lower` and `upper` are taken.
        method: "absolute", "normalized" or "quantile".
    """

    _derived: ClassVar[tuple[str, ...]] = (*RegressionPrediction._derived, "lower", "upper")

    base_lower: Tensor
    base_upper: Tensor
    score_scale: Tensor
    group: Tensor
    scores: RankedScores
    group_names: Sequence[str]
    level: float
    method: IntervalMethod

    @property
    def lower(self) -> Tensor:
        """Lower end of the interval at the fitted level; units of y."""
        return self.interval(self.level)[0]

    @property
    def upper(self) -> Tensor:
        """Upper end of the interval at the fitted level; units of y."""
        return self.interval(self.level)[1]

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Interval that holds y with probability at least `level`, for any model.

        The probability is over calibration and new rows together, if they are exchangeable within
        a group. Any level is served; "quantile" moves the ends it was fitted with.

        Args:
            level: Probability inside, in (0, 1).

        Returns:
            Lower and upper end, each of the shape of `mean`; units of y. Ends that would cross
            meet in the middle.

        Raises:
            RangeError: If `level` lies outside (0, 1), or needs more calibration rows.
        """
        function = "ConformalRegressionPrediction.interval"
        require_unit(function, "level", level)
        limits = thresholds(function, "prediction", self.scores, self.group_names, level)
        reach = limits.to(self.group.device)[self.group].reshape(self.mean.shape)
        lower, upper, scale = (
            values.double().reshape(self.mean.shape)
            for values in (self.base_lower, self.base_upper, self.score_scale)
        )
        return moved_ends(lower, upper, reach * scale, self.mean.dtype)

    def __repr__(self) -> str:
        """Return one line: the fields, the method and what it was calibrated on."""
        rows = sum(len(group[0]) for group in self.scores)
        return (
            f"ConformalRegressionPrediction({super().__repr__()}, {self.method}, "
            f"{rows} calibration rows, groups: {', '.join(self.group_names)})"
        )


class ConformalRegressor:
    """Intervals with a finite-sample guarantee, from the errors made on held-out rows.

    The score of a calibration row, and the interval that its quantile t gives:

    - "absolute": ``|y - mean|``, giving mean -+ t. One width for every row.
    - "normalized": ``|y - mean| / std``, giving mean -+ t std. Wider where the model is unsure.
    - "quantile": ``max(l - y, y - u)`` with (l, u) the model's own interval at `level`, giving
      (l - t, u + t). Keeps asymmetric intervals; t is negative where they were too wide.

    t is the k-th smallest of n scores, k = ceil((n + 1) level). For exchangeable rows the interval
    then covers with probability at least level, and below level + 1 / (n + 1) without ties. With
    `groups` this holds in each group. With several outputs each is covered on its own.

    Args:
        method: "absolute", "normalized" or "quantile".
        level: Probability inside, in (0, 1); `fit` makes sure that it can be guaranteed.

    Source:
        Lei et al. (2018), algorithm 2 and section 5.2; conformalized quantiles: Romano, Patterson
        & Candes (2019); groups: Vovk, Gammerman & Shafer (2005), section 4.5.

    Example:
        >>> import torch
        >>> zero = torch.zeros(4, 1)
        >>> p = RegressionPrediction(
        ...     mean=zero, epistemic_variance=zero, aleatoric_variance=zero, mcse=zero,
        ...     n_samples=0)
        >>> conformal = ConformalRegressor(level=0.6).fit(p, [3.0, -1.0, 2.0, -4.0])
        >>> conformal(p[0]).interval(0.6)  # rank ceil(5 * 0.6) = 3 of 1, 2, 3, 4
        (tensor([[-3.]]), tensor([[3.]]))
    """

    def __init__(self, method: IntervalMethod = "absolute", level: float = 0.9) -> None:
        require_choice("ConformalRegressor", "method", method, METHODS)
        require_unit("ConformalRegressor", "level", level)
        self.method: IntervalMethod = method
        self.level = level
        self._groups: Groups | None = None
        self._scores: RankedScores = ()
        self._row = torch.Size(())

    @property
    def threshold(self) -> Tensor:
        """The quantile t of the calibration scores at `level`, (groups, outputs), float64."""
        function = "ConformalRegressor.threshold"
        known = require_fitted(function, self._groups, "prediction, y")
        return thresholds(function, "level", self._scores, known.names, self.level)

    def fit(
        self, prediction: RegressionPrediction, y: Any, *, groups: Any = None
    ) -> ConformalRegressor:
        """Score held-out rows, and return the regressor.

        Args:
            prediction: For rows that neither the model nor a recalibration before was fitted on.
            y: Targets, shape of ``prediction.mean``; (N,) may stand for (N, 1).
            groups: One label per row, (N,): integers or strings. Each group is calibrated alone.

        Raises:
            UnsupportedError: If `prediction` is not a regression.
            OutputError: If quantiles of the mixture are needed and no samples were kept.
            ShapeError: If `y` or `groups` does not match the prediction.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a group has too few rows for the level, or `std` is 0 where it divides.
        """
        function = "ConformalRegressor.fit"
        require_regression(function, prediction, plain=False)
        target = targets_of(function, prediction, y)
        lower, upper, scale = score_base(function, prediction, self.method, self.level)
        scores = scores_of(target, lower, upper, scale, prediction.mean.dtype)
        found = Groups(function, groups, len(target))
        ranked = sorted_scores(scores.reshape(len(target), -1), found)
        thresholds(function, "y", ranked, found.names, self.level)
        self._groups, self._scores, self._row = found, ranked, prediction.mean.shape[1:]
        return self

    def __call__(
        self, prediction: RegressionPrediction, *, groups: Any = None
    ) -> ConformalRegressionPrediction:
        """Return the prediction with conformal intervals.

        Args:
            prediction: Any rows, with the outputs of the fit.
            groups: One label per row, (N,), of groups seen in the fit; None if it had none.

        Raises:
            UnsupportedError: If `fit` has not run, or the prediction is no regression.
            OutputError: If quantiles of the mixture are needed and no samples were kept.
            ShapeError: If outputs or groups do not match.
            RangeError: If a group is unknown, or `std` is 0 where it divides.
        """
        function = "ConformalRegressor"
        known = require_fitted(function, self._groups, "prediction, y")
        require_regression(function, prediction, plain=False)
        require_row_shape(function, prediction.mean, self._row)
        index = known.index(function, groups, len(prediction)).to(prediction.mean.device)
        lower, upper, scale = score_base(function, prediction, self.method, self.level)
        plain = {f.name: getattr(prediction, f.name) for f in fields(RegressionPrediction)}
        return ConformalRegressionPrediction(
            **plain,
            base_lower=lower,
            base_upper=upper,
            score_scale=scale,
            group=index,
            scores=self._scores,
            group_names=known.names,
            level=self.level,
            method=self.method,
        )
