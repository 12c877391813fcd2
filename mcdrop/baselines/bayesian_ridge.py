"""Bayesian ridge regression: linear, with uncertain coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mcdrop.baselines.table import Columns, Matrix, column_names, feature_matrix, target_matrix
from mcdrop.checks import require_fitted
from mcdrop.prediction import RegressionPrediction
from mcdrop.prediction.targets import row_index

__all__ = ["BayesianRidge"]


class BayesianRidge:
    """Linear regression on standardized features, penalty and noise chosen by the evidence.

    The predictive distribution is normal with variance ``z^T Sigma z + 1 / alpha``: the first
    term, with Sigma the posterior covariance of the coefficients and z the standardized row, is
    epistemic and grows away from the training data; the second, the noise, is aleatoric. The
    uncertainty of the intercept is not part of it. Several targets are fitted one by one.

    Source:
        MacKay (1992); Tipping (2001); scikit-learn's `BayesianRidge`.

    Example:
        >>> import torch
        >>> X = torch.arange(8.0).reshape(8, 1)
        >>> y = 2 * X[:, 0] + torch.tensor([1.0, -1.0]).repeat(4)
        >>> p = BayesianRidge().fit(X, y).predict([[3.5], [30.0]])
        >>> (p.epistemic_variance[1] > 100 * p.epistemic_variance[0]).item()
        True
    """

    def __init__(self) -> None:
        self._models: list[Any] | None = None
        self._target_shape: tuple[int, ...] = ()
        self._columns: Columns = None

    def fit(self, X: Any, y: Any) -> BayesianRidge:
        """Fit on rows `X` and targets `y`, and return the model itself.

        Args:
            X: Features, (N, D): Tensor, ndarray or DataFrame.
            y: Targets, (N,) or (N, K).

        Raises:
            ShapeError: If the rows of `X` and `y` do not match.
            NonFiniteError: If a value is NaN or infinite.
        """
        from sklearn.linear_model import BayesianRidge as SklearnBayesianRidge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = feature_matrix("BayesianRidge.fit", X)
        target = target_matrix("BayesianRidge.fit", y, len(features))
        self._target_shape, self._columns = target.shape[1:], column_names(X)
        self._models = [
            make_pipeline(StandardScaler(), SklearnBayesianRidge()).fit(features, column)
            for column in target.reshape(len(features), -1).T
        ]
        return self

    def predict(self, X: Any) -> RegressionPrediction:
        """Predict rows `X`: normal, float64, shaped like the targets of the fit.

        Args:
            X: Features, (N, D), in the order of the fit.

        Raises:
            ShapeError: If the number of features differs from the fit.
            RangeError: If columns have other names than in the fit, or another order.
            UnsupportedError: If `fit` has not run.
        """
        models = require_fitted("BayesianRidge.predict", self._models, "X, y")
        width = models[0].n_features_in_
        features = feature_matrix(
            "BayesianRidge.predict", X, n_features=width, columns=self._columns
        )
        shape = (len(features), *self._target_shape)
        columns = [_moments(model, features) for model in models]
        mean, epistemic, aleatoric = (
            torch.from_numpy(np.stack(moment, axis=1)).reshape(shape)
            for moment in zip(*columns, strict=True)
        )
        return RegressionPrediction(
            mean=mean,
            epistemic_variance=epistemic,
            aleatoric_variance=aleatoric,
            mcse=torch.zeros_like(mean),
            n_samples=0,
            family="normal",
            index=row_index(X),
        )


def _moments(model: Any, features: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Return mean, epistemic and aleatoric variance of one target, each (N,)."""
    mean, std = model.predict(features, return_std=True)
    aleatoric = np.full(len(features), 1.0 / model[-1].alpha_)
    return mean, np.maximum(np.square(std) - aleatoric, 0.0), aleatoric
