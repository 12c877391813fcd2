"""What dropout does to a linear model, in closed form: ridge with a penalty per feature."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mcdrop.baselines.table import feature_matrix
from mcdrop.errors import RangeError

__all__ = ["equivalent_ridge_penalty"]


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
    if not 0 <= p < 1:
        raise RangeError.of(
            "equivalent_ridge_penalty", "p", "lie in [0, 1)", p, "Pass the dropout rate"
        )
    features = torch.from_numpy(feature_matrix("equivalent_ridge_penalty", X))
    return p / (1 - p) * features.square().sum(dim=0)
