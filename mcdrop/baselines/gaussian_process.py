"""Gaussian process regression, the reference for small tables."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from mcdrop.baselines.table import Columns, Matrix, column_names, feature_matrix, target_matrix
from mcdrop.checks import require_count, require_fitted, require_seed
from mcdrop.errors import RangeError
from mcdrop.prediction import RegressionPrediction
from mcdrop.prediction.targets import row_index

__all__ = ["GaussianProcess"]


class GaussianProcess:
    """Gaussian process on standardized features and targets, hyperparameters by the evidence.

    The kernel is ``s^2 exp(-sum_j (x_j - x'_j)^2 / (2 l_j^2)) + noise``, with a length scale for
    each feature. The predictive distribution is normal: the variance of the function is
    epistemic and grows away from the data, the noise is aleatoric. Several targets are fitted one
    by one. The cost is cubic in the rows.

    Args:
        n_restarts: Further starts of the search for hyperparameters.
        max_rows: Refuse tables with more rows than this.
        random_state: Seed of the starts.

    Source:
        Rasmussen & Williams (2006), chapter 2; scikit-learn's `GaussianProcessRegressor`.

    Example:
        >>> import torch
        >>> X = torch.linspace(0, 6, 20).unsqueeze(1)
        >>> p = GaussianProcess().fit(X, torch.sin(X[:, 0])).predict([[3.0], [20.0]])
        >>> bool(p.epistemic_std[0] < 0.1), bool(p.epistemic_std[1] > 0.5)
        (True, True)
    """

    def __init__(self, *, n_restarts: int = 0, max_rows: int = 2000, random_state: int = 0) -> None:
        require_count("GaussianProcess", "n_restarts", n_restarts, 0)
        require_count("GaussianProcess", "max_rows", max_rows, 2)
        require_seed("GaussianProcess", "random_state", random_state)
        self.n_restarts = n_restarts
        self.max_rows = max_rows
        self.random_state = random_state
        self._models: list[Any] | None = None
        self._target_shape: tuple[int, ...] = ()
        self._columns: Columns = None
        self._center: Matrix = np.zeros(0)
        self._scale: Matrix = np.ones(0)

    def fit(self, X: Any, y: Any) -> GaussianProcess:
        """Fit on rows `X` and targets `y`, and return the model itself.

        Args:
            X: Features, (N, D): Tensor, ndarray or DataFrame.
            y: Targets, (N,) or (N, K).

        Raises:
            ShapeError: If the rows of `X` and `y` do not match.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If there are more rows than `max_rows`.
        """
        features = feature_matrix("GaussianProcess.fit", X)
        target = target_matrix("GaussianProcess.fit", y, len(features))
        if len(features) > self.max_rows:
            raise RangeError.of(
                "GaussianProcess.fit",
                "X",
                f"hold at most max_rows = {self.max_rows} rows, as the cost is cubic",
                len(features),
                "Pass fewer rows, raise max_rows, or leave this method out",
            )
        self._target_shape, self._columns = target.shape[1:], column_names(X)
        columns = target.reshape(len(features), -1)
        self._center, spread = columns.mean(axis=0), columns.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        standardized = (columns - self._center) / self._scale
        self._models = [self._fitted(features, column) for column in standardized.T]
        return self

    def _fitted(self, features: Matrix, target: Matrix) -> Any:
        """Fit one standardized target."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        # Standardized features are about sqrt(2 D) apart: shorter scales see no neighbor at first.
        scale = np.full(features.shape[1], np.sqrt(features.shape[1]))
        signal = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(scale, (1e-2, 1e4))
        kernel = signal + WhiteKernel(0.1, (1e-6, 1e2))
        process = GaussianProcessRegressor(
            kernel,
            n_restarts_optimizer=self.n_restarts,
            random_state=self.random_state,
        )
        with warnings.catch_warnings():
            # A feature without effect has a length scale at its bound, as it should.
            warnings.filterwarnings("ignore", "The optimal value found", ConvergenceWarning)
            return make_pipeline(StandardScaler(), process).fit(features, target)

    def predict(self, X: Any) -> RegressionPrediction:
        """Predict rows `X`: normal, float64, shaped like the targets of the fit.

        Args:
            X: Features, (N, D), in the order of the fit.

        Raises:
            ShapeError: If the number of features differs from the fit.
            RangeError: If columns have other names than in the fit, or another order.
            UnsupportedError: If `fit` has not run.
        """
        models = require_fitted("GaussianProcess.predict", self._models, "X, y")
        width = models[0].n_features_in_
        features = feature_matrix(
            "GaussianProcess.predict", X, n_features=width, columns=self._columns
        )
        shape = (len(features), *self._target_shape)
        mean, std, epistemic = (
            np.stack(moments, axis=1)
            for moments in zip(*(_moments(model, features) for model in models), strict=True)
        )
        found = RegressionPrediction.from_mean_std(
            (mean * self._scale + self._center).reshape(shape),
            (std * self._scale).reshape(shape),
            epistemic_std=(epistemic * self._scale).reshape(shape),
        )
        return replace(found, index=row_index(X))


def _moments(model: Any, features: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Return mean, standard deviation of y and of the function, each (N,)."""
    with warnings.catch_warnings():
        # Rounding may make the variance of a noise-free row slightly negative; it is set to 0.
        warnings.filterwarnings("ignore", "Predicted variances smaller than 0", UserWarning)
        mean, std = model.predict(features, return_std=True)
    noise = model[-1].kernel_.k2.noise_level
    epistemic = np.maximum(np.square(std) - noise, 0.0)
    return mean, np.sqrt(epistemic + noise), np.sqrt(epistemic)
