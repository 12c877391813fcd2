"""Ridge regression with normal noise: the plain linear answer to compare dropout with."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from mcdrop.baselines.candidates import checked_penalty
from mcdrop.baselines.table import Columns, Matrix, column_names, feature_matrix, target_matrix
from mcdrop.checks import require_fitted
from mcdrop.errors import McdropError, RangeError
from mcdrop.metrics._arrays import tensor_of
from mcdrop.prediction import RegressionPrediction
from mcdrop.prediction.targets import row_index

__all__ = ["Ridge"]

# From hardly any penalty to "predict the mean", for standardized features and up to 1e5 rows.
_ALPHAS = np.logspace(-3, 6, 37)


class Ridge:
    """Least squares with an L2 penalty on standardized features; the intercept is free.

    The predictive distribution is normal. Its variance is the residual variance of the training
    rows, ``RSS / (n - trace(H))`` with H the hat matrix, and is wholly aleatoric: plain Ridge
    knows nothing about the uncertainty of its own coefficients (see `BayesianRidge`).

    The divisor: under the model that ridge is the posterior mean of, b ~ N(0, s^2 / alpha I) and
    y = Z b + noise of variance s^2, the targets have covariance s^2 (I + Z Z^T / alpha) =
    s^2 (I - H)^-1, and the residuals are (I - H) y. Hence E RSS = s^2 trace((I - H)^2 (I - H)^-1)
    = s^2 (n - trace(H)): unbiased. At alpha = 0 it is the usual n - D - 1.

    Args:
        alpha: Penalty on the squared coefficients of the standardized features, added to the sum
            of squared errors; "cv" chooses it by leave-one-out error.

    Source:
        Hoerl & Kennard (1970); effective degrees of freedom: Hastie, Tibshirani & Friedman
        (2009), section 3.4.1.

    Example:
        >>> import torch
        >>> X = torch.arange(6.0).reshape(6, 1)
        >>> p = Ridge(alpha=0.0).fit(X, 2 * X[:, 0] + 1).predict([[10.0]])
        >>> round(p.mean.item(), 6), p.epistemic_variance.item()
        (21.0, 0.0)
    """

    def __init__(self, alpha: float | Literal["cv"] = "cv") -> None:
        checked_penalty("Ridge", "alpha", alpha, zero=True)
        self.alpha = alpha
        self._model: Any = None
        self._noise_variance: Matrix = np.zeros(0)
        self._columns: Columns = None

    @property
    def chosen_alpha(self) -> float:
        """Penalty in force after `fit`."""
        ridge = require_fitted("Ridge.chosen_alpha", self._model, "X, y")[-1]
        return float(ridge.alpha_ if self.alpha == "cv" else ridge.alpha)

    def fit(self, X: Any, y: Any) -> Ridge:
        """Fit on rows `X` and targets `y`, and return the model itself.

        Args:
            X: Features, (N, D): Tensor, ndarray or DataFrame.
            y: Targets, (N,) or (N, K).

        Raises:
            ShapeError: If the rows of `X` and `y` do not match.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If too few rows are left to estimate the noise.
        """
        from sklearn.linear_model import Ridge as SklearnRidge
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = feature_matrix("Ridge.fit", X)
        target = target_matrix("Ridge.fit", y, len(features))
        if len(features) < 2:
            raise _no_freedom(features)
        ridge = RidgeCV(_ALPHAS) if self.alpha == "cv" else SklearnRidge(self.alpha)
        self._model = make_pipeline(StandardScaler(), ridge).fit(features, target)
        standardized = self._model[0].transform(features)
        degrees = len(features) - effective_parameters(standardized, self.chosen_alpha)
        # Rank computations leave rounding dust where nothing is left.
        if degrees < 1e-6:
            raise _no_freedom(features)
        residual = target - self._model.predict(features).reshape(target.shape)
        self._noise_variance = np.square(residual).sum(axis=0) / degrees
        self._columns = column_names(X)
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
        model = require_fitted("Ridge.predict", self._model, "X, y")
        features = feature_matrix(
            "Ridge.predict", X, n_features=model.n_features_in_, columns=self._columns
        )
        mean = torch.from_numpy(np.ascontiguousarray(model.predict(features), dtype=np.float64))
        mean = mean.reshape(len(features), *self._noise_variance.shape)
        return RegressionPrediction(
            mean=mean,
            epistemic_variance=torch.zeros_like(mean),
            aleatoric_variance=tensor_of(self._noise_variance).expand_as(mean).clone(),
            mcse=torch.zeros_like(mean),
            n_samples=0,
            family="normal",
            index=row_index(X),
        )


def _no_freedom(features: Matrix) -> McdropError:
    return RangeError.of(
        "Ridge.fit",
        "X",
        "leave residual degrees of freedom for the noise",
        f"{len(features)} rows for {features.shape[1]} features",
        "Pass more rows or a larger alpha",
    )


def effective_parameters(standardized: Matrix, alpha: float) -> float:
    """Trace of the hat matrix: ``1 + sum_j d_j^2 / (d_j^2 + alpha)``, the 1 for the intercept."""
    singular = np.linalg.svd(standardized, compute_uv=False)
    power = np.square(singular[singular > 1e-10 * max(singular[0], 1e-300)])
    return 1.0 + float((power / (power + alpha)).sum())
