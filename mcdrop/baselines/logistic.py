"""L2-penalized logistic regression: the plain linear classifier to compare dropout with."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from mcdrop.baselines.candidates import checked_penalty
from mcdrop.baselines.table import Columns, column_names, feature_matrix, label_vector
from mcdrop.checks import require_fitted
from mcdrop.errors import RangeError
from mcdrop.prediction import ClassificationPrediction
from mcdrop.prediction.classification import entropy
from mcdrop.prediction.targets import row_index

__all__ = ["LogisticL2"]

_CS = np.logspace(-4, 2, 13)
_FOLDS = 5


class LogisticL2:
    """Multinomial logistic regression on standardized features with an L2 penalty.

    One fixed set of coefficients predicts, so nothing is epistemic: mutual information, variation
    ratio and `probs_std` are 0, and the expected entropy is the predictive entropy.

    Args:
        C: Inverse penalty: the log loss summed over rows, times C, plus half the squared
            coefficients. "cv" chooses it by the log loss of 5 stratified folds.

    Source:
        Hastie, Tibshirani & Friedman (2009), section 4.4; scikit-learn's `LogisticRegression`.

    Example:
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
        >>> LogisticL2(C=10.0).fit(X, y).predict([[-1.0], [4.0]]).labels
        tensor([0, 1])
    """

    def __init__(self, C: float | Literal["cv"] = "cv") -> None:
        checked_penalty("LogisticL2", "C", C)
        self.C = C
        self._model: Any = None
        self._columns: Columns = None

    @property
    def chosen_C(self) -> float:  # noqa: N802 - the field writes it with a capital
        """Inverse penalty in force after `fit`."""
        return float(require_fitted("LogisticL2.chosen_C", self._model, "X, y")[-1].C)

    def fit(self, X: Any, y: Any) -> LogisticL2:
        """Fit on rows `X` and labels `y`, and return the model itself.

        Args:
            X: Features, (N, D): Tensor, ndarray or DataFrame.
            y: Class indices 0, 1, ..., C - 1, shape (N,), each class at least once.

        Raises:
            ShapeError: If the rows of `X` and `y` do not match.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a class is missing, or too rare for the folds of "cv".
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = feature_matrix("LogisticL2.fit", X)
        labels = label_vector("LogisticL2.fit", y, len(features))
        C = _chosen_by_folds(features, labels) if self.C == "cv" else self.C
        logistic = LogisticRegression(C=C, max_iter=5000)
        self._model = make_pipeline(StandardScaler(), logistic).fit(features, labels)
        self._columns = column_names(X)
        return self

    def predict(self, X: Any) -> ClassificationPrediction:
        """Predict rows `X`: class probabilities, float64.

        Args:
            X: Features, (N, D), in the order of the fit.

        Raises:
            ShapeError: If the number of features differs from the fit.
            RangeError: If columns have other names than in the fit, or another order.
            UnsupportedError: If `fit` has not run.
        """
        model = require_fitted("LogisticL2.predict", self._model, "X, y")
        features = feature_matrix(
            "LogisticL2.predict", X, n_features=model.n_features_in_, columns=self._columns
        )
        probs = torch.from_numpy(np.ascontiguousarray(model.predict_proba(features)))
        return ClassificationPrediction(
            probs=probs,
            probs_std=torch.zeros_like(probs),
            expected_entropy=entropy(probs),
            variation_ratio=torch.zeros_like(probs[:, 0]),
            mcse=torch.zeros_like(probs),
            n_samples=0,
            index=row_index(X),
        )


def _chosen_by_folds(features: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """Return the C with the smallest cross-validated log loss; scaling is part of every fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rarest = int(np.bincount(labels).min())
    if rarest < 2:
        raise RangeError.of(
            "LogisticL2.fit",
            "y",
            "hold every class at least twice for cross-validation",
            f"{rarest} row of class {int(np.bincount(labels).argmin())}",
            "Pass a number for C, or more rows",
        )
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
        {"logisticregression__C": _CS},
        scoring="neg_log_loss",
        # Rows are often sorted by class or time; the fixed seed keeps the choice reproducible.
        cv=StratifiedKFold(min(_FOLDS, rarest), shuffle=True, random_state=0),
        refit=False,
    )
    return float(search.fit(features, labels).best_params_["logisticregression__C"])
