"""A rule that rejects the least certain rows, and says what to expect of the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from mcdrop.checks import require_choice, require_finite, require_unit
from mcdrop.errors import RangeError, ShapeError, UnsupportedError
from mcdrop.metrics import mean_interval, share_interval
from mcdrop.metrics._arrays import tensor_of
from mcdrop.metrics.estimate import Estimate
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction
from mcdrop.prediction.targets import aligned_targets, class_labels

__all__ = ["RejectionRule"]

AnyPrediction = RegressionPrediction | ClassificationPrediction
Score = str | Callable[[Any], Tensor]

# The first of each is the default; for the zero-one loss no score ranks better than the
# probability of the predicted class, if it is true (Chow 1970).
_CLASSIFICATION = (
    "confidence",
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "variation_ratio",
)
_REGRESSION = ("std", "epistemic_std", "aleatoric_std")


@dataclass(frozen=True)
class RejectionRule:
    """Rejects rows whose uncertainty exceeds a threshold; made by `fit`, called on predictions.

    Attributes:
        threshold: Rows are rejected where their uncertainty is above it.
        by: Which uncertainty: the name of a quantity of the prediction, or a function of it.
        error: What to expect of the rows kept, with an interval: the error rate (exact binomial,
            Clopper-Pearson), or for a regression without `tolerance` the mean absolute error, units
            of y (skew-adjusted t).
        rejected: Share of new rows that will be rejected, with an interval that is exact for
            rows from the same distribution, since the share above the k-th of n values is
            Beta(n + 1 - k, k). Where several rows tie with the threshold, fewer are rejected: the
            share of the n rows above it, with its exact binomial interval.
    """

    threshold: float
    by: Score
    error: Estimate
    rejected: Estimate

    @classmethod
    def fit(
        cls,
        prediction: AnyPrediction,
        y: Any,
        reject: float = 0.1,
        *,
        by: Score | None = None,
        tolerance: float | None = None,
        level: float = 0.95,
    ) -> RejectionRule:
        """Choose the threshold on held-out rows.

        Args:
            prediction: A prediction for N rows that the model was not trained on, with one
                distribution per row.
            y: Their targets, (N,).
            reject: Largest share of new rows to reject on average, in (0, 1).
            by: "confidence" (low ones are rejected), "predictive_entropy", "expected_entropy",
                "mutual_information" or "variation_ratio" for classification; "std",
                "epistemic_std" or "aleatoric_std" for regression; or a function of a prediction
                that returns one number per row, higher where less certain. None takes "confidence"
                or "std".
            tolerance: For regression: what counts as an error, in units of y; the error is then the
                share of rows with ``|y - mean| > tolerance``.
            level: Coverage of the intervals, in (0, 1).

        Returns:
            The rule. The threshold looks at uncertainties alone, not at `y`; the interval of
            the error is exact but for the one row that sets the threshold.

        Raises:
            RangeError: If `reject` or `level` lies outside (0, 1), `by` is unknown, or there are
                too few rows to reject so few.
            ShapeError: If the prediction has several values per row, or `y` does not match.
            UnsupportedError: If `prediction` is none, or `tolerance` is given for a classification.

        Source:
            Chow (1970), On optimum recognition error and reject tradeoff; Geifman & El-Yaniv
            (2017); share of new values above an order statistic: Wilks (1941).

        Example:
            >>> import torch
            >>> p = torch.tensor([0.9, 0.8, 0.7, 0.6])
            >>> zero = torch.zeros(4)
            >>> held_out = ClassificationPrediction(
            ...     probs=torch.stack([p, 1 - p], 1), probs_std=zero, expected_entropy=zero,
            ...     variation_ratio=zero, mcse=zero, n_samples=0)
            >>> rule = RejectionRule.fit(held_out, [0, 0, 0, 1], reject=0.4)
            >>> rule(held_out)
            tensor([False, False, False,  True])
            >>> print(rule.error, rule.rejected.value)
            0.00 [0.00, 0.71] 0.4
        """
        function = "RejectionRule.fit"
        _require_prediction(function, prediction)
        require_unit(function, "reject", reject, remedy="Write ten percent as 0.1")
        require_unit(function, "level", level)
        names = _names(prediction)
        if not callable(by):
            by = names[0] if by is None else by
            require_choice(function, "by", by, names)
        scores = _scores(function, prediction, by)
        losses = _losses(function, prediction, y, tolerance)
        n = len(scores)
        # 1e-9 keeps 0.9 * 10 from counting as 9.000000000000002.
        kept = math.ceil((1 - reject) * (n + 1) - 1e-9)
        if kept > n:
            condition = f"be at least {1 / (n + 1):.3g}, one of {n + 1} rows"
            remedy = "Pass more rows, or reject more of them"
            raise RangeError.of(function, "reject", condition, reject, remedy)
        threshold = float(scores.sort().values[kept - 1])
        rest = losses[scores <= threshold].cpu().numpy()
        is_share = tolerance is not None or isinstance(prediction, ClassificationPrediction)
        if not is_share and len(rest) < 2:
            raise RangeError.of(
                function, "reject", "leave at least 2 rows", reject, "Reject fewer rows"
            )
        error = (share_interval if is_share else mean_interval)(rest, level=level)
        if int((scores == threshold).sum()) > 1:
            return cls(threshold, by, error, share_interval(scores > threshold, level=level))
        return cls(threshold, by, error, _rejected(kept, n, level))

    def __call__(self, prediction: AnyPrediction) -> Tensor:
        """Say which rows to reject.

        Args:
            prediction: Of the type that the rule was fitted on.

        Returns:
            True for rows to reject, (N,).

        Raises:
            RangeError: If the prediction is of another task.
            ShapeError: If it has several values per row.
            UnsupportedError: If it is no prediction.
        """
        _require_prediction("RejectionRule", prediction)
        if not callable(self.by) and self.by not in _names(prediction):
            kind = "regression" if self.by in _REGRESSION else "classification"
            raise RangeError.of(
                "RejectionRule",
                "prediction",
                f"have {self.by}, by which the rule was fitted on a {kind}",
                type(prediction).__name__,
                "Fit a rule on a prediction of the same task",
            )
        return _scores("RejectionRule", prediction, self.by) > self.threshold


def _require_prediction(function: str, prediction: object) -> None:
    if not isinstance(prediction, RegressionPrediction | ClassificationPrediction):
        raise UnsupportedError.of(
            function,
            "prediction",
            "be a RegressionPrediction or a ClassificationPrediction",
            type(prediction).__name__,
            "Pass what predict_with_uncertainty returns",
        )


def _names(prediction: AnyPrediction) -> tuple[str, ...]:
    if isinstance(prediction, ClassificationPrediction):
        return _CLASSIFICATION
    return _REGRESSION


def _scores(function: str, prediction: AnyPrediction, by: Score) -> Tensor:
    """Return the uncertainty of each row, (N,), in float64; higher is less certain."""
    scores = tensor_of(by(prediction) if callable(by) else getattr(prediction, by))
    if by == "confidence":
        scores = -scores
    n = len(prediction)
    if scores.shape[:1] != (n,) or scores.numel() != n:
        name = "std" if isinstance(prediction, RegressionPrediction) else "predictive_entropy"
        raise ShapeError.of(
            function,
            "prediction",
            "have one uncertainty per row",
            f"shape {tuple(scores.shape)}",
            f"Combine them: by=lambda p: p.{name}.flatten(1).mean(dim=1)",
        )
    require_finite(function, prediction=scores)
    return scores.double().reshape(n)


def _losses(function: str, prediction: AnyPrediction, y: Any, tolerance: float | None) -> Tensor:
    """Return zero-one errors or absolute errors of each row, (N,)."""
    if isinstance(prediction, ClassificationPrediction):
        if tolerance is not None:
            raise UnsupportedError.of(
                function, "tolerance", "be None for a classification", tolerance, "Leave it out"
            )
        labels = class_labels(function, y, prediction.probs, index=prediction.index)
        return (labels != prediction.labels).double().reshape(len(labels), -1).mean(dim=1)
    target = aligned_targets(function, y, prediction.mean, index=prediction.index)
    require_finite(function, y=target)
    errors = (target - prediction.mean).abs().reshape(len(target), -1)
    if tolerance is not None:
        is_number: bool = isinstance(tolerance, int | float | np.number)
        if not is_number or not tolerance > 0:
            remedy = "Pass what counts as an error, in units of y"
            raise RangeError.of(function, "tolerance", "be above 0", repr(tolerance), remedy)
        errors = (errors > tolerance).double()
    return errors.mean(dim=1)


def _rejected(kept: int, n: int, level: float) -> Estimate:
    """Share of new rows above the `kept`-th smallest of n values of one distribution."""
    from scipy.stats import beta

    law = beta(n + 1 - kept, kept)
    low, high = law.ppf([(1 - level) / 2, (1 + level) / 2])
    mean, spread = float(law.mean()), float(law.std())
    return Estimate(mean, float(low), float(high), spread, level, n, "beta")
