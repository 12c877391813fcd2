"""What input dropout does to linear and logistic models: an L2 penalty per feature."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mcdrop.baselines.table import feature_matrix
from mcdrop.checks import checked_rate
from mcdrop.errors import ShapeError
from mcdrop.prediction.targets import numbers

__all__ = ["equivalent_logistic_penalty", "equivalent_ridge_penalty"]


def equivalent_ridge_penalty(X: Any, p: float) -> Tensor:
    """L2 penalty per feature that input dropout imposes on a linear model with squared loss.

    Inverted dropout replaces x_ij by x_ij m / (1 - p) with m ~ Bernoulli(1 - p), which keeps the
    mean and adds the variance x_ij^2 p / (1 - p). So, in expectation over masks,

        E sum_i (y_i - w . x~_i)^2  =  sum_i (y_i - w . x_i)^2  +  sum_j penalty_j w_j^2,
        penalty_j = p / (1 - p) * sum_i x_ij^2.

    It is exact for every w, and independent of y. For features of mean 0 and variance 1 it is
    plain ridge with alpha = N p / (1 - p).

    Args:
        X: Features as they enter the dropout, (N, D).
        p: Dropout rate in [0, 1).

    Returns:
        Penalty of each squared weight, shape (D,), float64.

    Raises:
        RangeError: If `p` lies outside [0, 1).
        ShapeError: If `X` is not a matrix.

    Source:
        Baldi & Sadowski (2013); Wager, Wang & Liang (2013), section 2.

    Example:
        >>> equivalent_ridge_penalty([[1.0, 2.0], [3.0, 0.0]], p=0.5)
        tensor([10.,  4.], dtype=torch.float64)
    """
    rate = checked_rate("equivalent_ridge_penalty", p)
    features = torch.from_numpy(feature_matrix("equivalent_ridge_penalty", X))
    return rate / (1 - rate) * features.square().sum(dim=0)


def equivalent_logistic_penalty(
    X: Any, coefficients: Any, p: float, *, intercept: float = 0.0
) -> Tensor:
    """L2 penalty per feature that input dropout imposes on logistic regression, to second order.

    The log loss is A(x . w) - y x . w with A(z) = log(1 + e^z). Dropout leaves the mean of the
    linear term, so that in expectation over masks it adds sum_i E A(x~_i . w) - A(x_i . w) to the
    loss summed over rows, whatever the labels. Expanding A about x_i . w,

        E A(x~_i . w) - A(x_i . w)  =  1/2 A''(x_i . w) Var(x~_i . w) + ...,
        penalty_j = 1/2 p / (1 - p) * sum_i q_i (1 - q_i) x_ij^2,   q_i = sigmoid(x_i . w + b),

    and the added loss is sum_j penalty_j w_j^2. The penalty adapts: rows that are classified with
    confidence have q (1 - q) near 0 and do not count, and features that are rare but decisive are
    penalized less than ridge would.

    Args:
        X: Features as they enter the dropout, (N, D).
        coefficients: w, the coefficients at which the penalty is taken, (D,).
        p: Dropout rate in [0, 1).
        intercept: b, which is not dropped.

    Returns:
        Penalty of each squared coefficient, shape (D,), float64.

    Raises:
        RangeError: If `p` lies outside [0, 1).
        ShapeError: If `X` is not a matrix, or `coefficients` are not one per feature.

    Source:
        Wager, Wang & Liang (2013), Dropout training as adaptive regularization, equations 8 to 11.

    Example:
        >>> equivalent_logistic_penalty([[2.0, 0.0]], [0.0, 0.0], p=0.5)  # 1/2 * 1 * 1/4 * 4
        tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    function = "equivalent_logistic_penalty"
    rate = checked_rate(function, p)
    features = torch.from_numpy(feature_matrix(function, X))
    weights = numbers(function, "coefficients", coefficients).detach().cpu()
    if weights.shape not in ((features.shape[1],), (1, features.shape[1])):
        raise ShapeError.of(
            function,
            "coefficients",
            f"have shape ({features.shape[1]},), one per feature of `X`",
            tuple(weights.shape),
            "Pass the coefficients of class 1",
        )
    q = torch.sigmoid(features @ weights.reshape(-1) + intercept)
    return 0.5 * rate / (1 - rate) * ((q * (1 - q)).unsqueeze(1) * features.square()).sum(dim=0)
