"""Conformal intervals from cross-validation: CV+ and the jackknife+, with nothing held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mcdrop.checks import require_choice, require_fitted, require_unit
from mcdrop.errors import RangeError, ShapeError
from mcdrop.prediction import RegressionPrediction
from mcdrop.prediction.targets import numbers
from mcdrop.recalibration._interval_scores import moved_ends, score_base
from mcdrop.recalibration._matched import require_regression, require_row_shape, targets_of

__all__ = ["CrossConformalPrediction", "CrossConformalRegressor"]

CrossMethod = Literal["absolute", "normalized"]

# Values held at a time while the ends of several rows are sorted.
_CELLS = 2**22


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CrossConformalPrediction(RegressionPrediction):
    """A regression whose intervals come from the errors of K models on the rows each left out.

    `mean` and the variances are those of the equal-weight mixture of the K models: the variance of
    their means counts as epistemic. `quantile` and `log_prob` use its moment-matched normal.

    Attributes:
        fold_means: Mean of each of the K models, (K, N, ...).
        fold_scales: Units of y per unit of score for each model, (K, N, ...).
        scores: Scores of the training rows by fold, output and ascending rank.
        level: Level given to the regressor, at which `lower` and `upper` are taken.
        method: "absolute" or "normalized".
    """

    _passes_first: ClassVar[tuple[str, ...]] = (
        *RegressionPrediction._passes_first,
        "fold_means",
        "fold_scales",
    )
    _derived: ClassVar[tuple[str, ...]] = (*RegressionPrediction._derived, "lower", "upper")

    fold_means: Tensor
    fold_scales: Tensor
    scores: Sequence[Sequence[Sequence[float]]]
    level: float
    method: CrossMethod

    @property
    def lower(self) -> Tensor:
        """Lower end of the interval at the fitted level; units of y."""
        return self.interval(self.level)[0]

    @property
    def upper(self) -> Tensor:
        """Upper end of the interval at the fitted level; units of y."""
        return self.interval(self.level)[1]

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Interval of the CV+: ranks of the n values that training rows shift each model by.

        With k(i) the fold of training row i and R_i its score, the upper end is the
        ceil((n + 1) level)-th smallest of mean_k(i)(x) + R_i scale_k(i)(x), the lower end the
        same of the negatives.

        Args:
            level: Probability inside, in (0, 1).

        Returns:
            Lower and upper end, each of the shape of `mean`; units of y.

        Raises:
            RangeError: If `level` lies outside (0, 1), or needs more training rows.
        """
        function = "CrossConformalPrediction.interval"
        require_unit(function, "level", level)
        rank = _rank(function, sum(len(fold[0]) for fold in self.scores), level)
        shape, n_folds = self.mean.shape, len(self.scores)
        means = self.fold_means.double().reshape(n_folds, len(self), -1)
        scales = self.fold_scales.double().reshape(n_folds, len(self), -1)
        ends = [self._ends(means[..., d], scales[..., d], d, rank) for d in range(means.shape[2])]
        lower = torch.stack([low for low, _ in ends], dim=1).reshape(shape)
        upper = torch.stack([high for _, high in ends], dim=1).reshape(shape)
        return moved_ends(lower, upper, torch.zeros_like(lower), self.mean.dtype)

    def _ends(self, means: Tensor, scales: Tensor, d: int, rank: int) -> tuple[Tensor, Tensor]:
        """Return both ends of output d for means and scales (K, N)."""
        scores = [torch.tensor(fold[d], dtype=torch.float64, device="cpu") for fold in self.scores]
        n_rows = sum(map(len, scores))
        lower, upper = [], []
        size = max(1, _CELLS // n_rows)
        for mean, scale in zip(means.split(size, dim=1), scales.split(size, dim=1), strict=True):
            shifts = [s * r[:, None].to(s.device) for s, r in zip(scale, scores, strict=True)]
            above = torch.cat([m + shift for m, shift in zip(mean, shifts, strict=True)])
            below = torch.cat([shift - m for m, shift in zip(mean, shifts, strict=True)])
            upper.append(above.kthvalue(rank, dim=0).values)
            lower.append(-below.kthvalue(rank, dim=0).values)
        return torch.cat(lower), torch.cat(upper)

    def __repr__(self) -> str:
        """Return one line: the fields, the method and what it was calibrated on."""
        rows = sum(len(fold[0]) for fold in self.scores)
        return (
            f"CrossConformalPrediction({super().__repr__()}, {self.method}, "
            f"{len(self.scores)} folds, {rows} rows)"
        )


class CrossConformalRegressor:
    """Conformal intervals that use every row for training and for calibration: CV+, jackknife+.

    Split the n training rows into K folds, train K models, each without one fold, and predict every
    row by the model that has not seen it. Those errors calibrate, and a new row is predicted by all
    K models. K = n is the jackknife+. For exchangeable rows, a training procedure that does not
    depend on the order of rows, and alpha = 1 - level, y lies inside with probability at least

        1 - 2 alpha - min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1)),

    which is 1 - 2 alpha for the jackknife+ and at least 1 - 2 alpha - sqrt(2 / n) for every K. The
    factor 2 covers unstable training procedures; for stable ones coverage is close to 1 - alpha.
    `ConformalRegressor` guarantees 1 - alpha, but holds rows out.

    Args:
        method: "absolute", with scores ``|y - mean|``, or "normalized", with ``|y - mean| / std``.
        level: Probability inside, in (0, 1); `fit` makes sure that n rows have such a rank.

    Source:
        Barber, Candes, Ramdas & Tibshirani (2021), "Predictive inference with the jackknife+",
        theorems 1 and 4; cross-conformal prediction: Vovk (2015).

    Example:
        >>> from mcdrop.baselines import Ridge
        >>> X, y = torch.arange(20.0)[:, None], torch.arange(20.0)
        >>> folds = torch.arange(20) % 4
        >>> models = [Ridge(1.0).fit(X[folds != k], y[folds != k]) for k in range(4)]
        >>> left_out = CrossConformalRegressor.gathered([m.predict(X) for m in models], folds)
        >>> conformal = CrossConformalRegressor(level=0.9).fit(left_out, y, folds=folds)
        >>> lower, upper = conformal([m.predict([[7.5]]) for m in models]).interval(0.9)
        >>> bool((lower <= 7.5) & (7.5 <= upper))
        True
    """

    def __init__(self, method: CrossMethod = "absolute", level: float = 0.9) -> None:
        require_choice("CrossConformalRegressor", "method", method, ("absolute", "normalized"))
        require_unit("CrossConformalRegressor", "level", level)
        self.method: CrossMethod = method
        self.level = level
        self._scores: Sequence[Sequence[Sequence[float]]] | None = None
        self._row = torch.Size(())

    @staticmethod
    def gathered(predictions: Sequence[RegressionPrediction], folds: Any) -> RegressionPrediction:
        """Take each row from the model that has not seen it.

        Args:
            predictions: What each of the K models says about all n training rows.
            folds: Fold of each row, (n,): the model of fold k was trained without it.

        Returns:
            The prediction of every row by the model of its fold, in the order of the rows, of the
            moment-matched normal; to be passed to `fit`.

        Raises:
            UnsupportedError: If a prediction is not a regression.
            ShapeError: If predictions or folds do not match.
            RangeError: If folds are not numbered from 0 to K - 1.
        """
        function = "CrossConformalRegressor.gathered"
        first = _require_alike(function, predictions)
        index = _folds(function, folds, len(first), len(predictions)).to(first.mean.device)
        rows = torch.arange(len(first), device=first.mean.device)

        def chosen(name: str) -> Tensor:
            values: Tensor = torch.stack([getattr(p, name) for p in predictions])[index, rows]
            return values

        return RegressionPrediction(
            mean=chosen("mean"),
            epistemic_variance=chosen("epistemic_variance"),
            aleatoric_variance=chosen("aleatoric_variance"),
            mcse=chosen("mcse"),
            n_samples=first.n_samples,
            family="normal",
        )

    def fit(
        self, prediction: RegressionPrediction, y: Any, *, folds: Any
    ) -> CrossConformalRegressor:
        """Score the training rows, and return the regressor.

        Args:
            prediction: For the n training rows, each by the model that has not seen it.
            y: Targets, shape of ``prediction.mean``; (N,) may stand for (N, 1).
            folds: Fold of each row, (n,), numbered from 0 to K - 1.

        Raises:
            UnsupportedError: If `prediction` is not a regression.
            ShapeError: If `y` or `folds` does not match the prediction.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If there are too few rows for the level, folds are not numbered from 0 to
                K - 1 with K >= 2, or `std` is 0 where it divides.
        """
        function = "CrossConformalRegressor.fit"
        require_regression(function, prediction, plain=False)
        target = targets_of(function, prediction, y)
        index = _folds(function, folds, len(target), None)
        _rank(function, len(target), self.level)
        mean, _, scale = score_base(function, prediction, self.method, self.level)
        scores = ((target - mean).abs() / scale).reshape(len(target), -1).cpu()
        self._scores = tuple(
            tuple(tuple(column.tolist()) for column in scores[index == k].sort(dim=0).values.T)
            for k in range(int(index.max()) + 1)
        )
        self._row = prediction.mean.shape[1:]
        return self

    def __call__(self, prediction: Sequence[RegressionPrediction]) -> CrossConformalPrediction:
        """Return one prediction with intervals from what all K models say about new rows.

        Args:
            prediction: What each model says about the same new rows, in the order of the folds.

        Raises:
            UnsupportedError: If `fit` has not run, or a prediction is no regression.
            ShapeError: If there is not one prediction per fold, or outputs do not match.
            RangeError: If `std` is 0 where it divides.
        """
        function = "CrossConformalRegressor"
        scores = require_fitted(function, self._scores, "prediction, y, folds=")
        first = _require_alike(function, prediction)
        if len(prediction) != len(scores):
            raise ShapeError.of(
                function,
                "prediction",
                f"hold one prediction for each of {len(scores)} folds",
                len(prediction),
                "Predict the new rows with the model of every fold",
            )
        require_row_shape(function, first.mean, self._row)
        bases = [score_base(function, p, self.method, self.level) for p in prediction]
        means = torch.stack([mean for mean, _, _ in bases])
        within = torch.stack([p.epistemic_variance for p in prediction]).mean(dim=0)
        errors = torch.stack([p.mcse for p in prediction])
        return CrossConformalPrediction(
            mean=means.mean(dim=0).to(first.mean.dtype),
            epistemic_variance=within + means.var(dim=0, correction=0).to(within.dtype),
            aleatoric_variance=torch.stack([p.aleatoric_variance for p in prediction]).mean(dim=0),
            mcse=errors.square().sum(dim=0).sqrt() / len(prediction),
            n_samples=sum(p.n_samples for p in prediction),
            family="normal",
            fold_means=means,
            fold_scales=torch.stack([scale for _, _, scale in bases]),
            scores=scores,
            level=self.level,
            method=self.method,
        )


def _require_alike(
    function: str, predictions: Sequence[RegressionPrediction]
) -> RegressionPrediction:
    """Require regressions of one shape, and return the first."""
    for prediction in predictions:
        require_regression(function, prediction, plain=False)
    shapes = {tuple(prediction.mean.shape) for prediction in predictions}
    if len(shapes) != 1:
        raise ShapeError.of(
            function,
            "prediction",
            "hold predictions of one shape",
            sorted(shapes) or "none",
            "Predict the same rows with the model of every fold",
        )
    return predictions[0]


def _folds(function: str, folds: Any, n_rows: int, n_folds: int | None) -> Tensor:
    """Return the fold of each row, int64 on the CPU; every number up to the largest occurs."""
    found = numbers(function, "folds", folds).cpu()
    if found.shape != (n_rows,):
        raise ShapeError.of(
            function,
            "folds",
            f"have shape ({n_rows},) to match `prediction`",
            tuple(found.shape),
            "Pass the fold of each row",
        )
    seen = found.unique()
    wanted = torch.arange(len(seen) if n_folds is None else n_folds, device="cpu").double()
    if len(wanted) < 2 or not torch.equal(seen, wanted):
        raise RangeError.of(
            function,
            "folds",
            "number at least two folds from 0 to K - 1, each with a row",
            f"{seen[:10].tolist()}",
            "Number the folds in the order of the models",
        )
    return found.long()


def _rank(function: str, n_rows: int, level: float) -> int:
    """Return ceil((n + 1) level), or say how many rows it takes."""
    # The level as written, 9/10 and not the double next to it, which would tip a whole rank over.
    exact = Fraction(str(float(level)))
    rank = math.ceil((n_rows + 1) * exact)
    if rank > n_rows:
        raise RangeError.of(
            function,
            "prediction",
            f"have at least {math.ceil(exact / (1 - exact))} training rows for level {level:g}",
            n_rows,
            "Train on more rows, or ask for a lower level",
        )
    return rank
