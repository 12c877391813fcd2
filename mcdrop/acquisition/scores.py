"""Scores of single rows, and the best k of them; higher is more informative."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop.checks import require_count, require_finite, shown
from mcdrop.errors import RangeError, ShapeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction

__all__ = ["bald", "max_entropy", "max_variance", "top_k", "variation_ratio"]


def bald(prediction: ClassificationPrediction) -> Tensor:
    """Mutual information of a row's label and the weights.

    I(y; w | x) = H[mean_s p_s(y | x)] - mean_s H[p_s(y | x)], the plug-in estimate over S passes.

    Args:
        prediction: Classification of N rows. Rows with several outputs, such as pixels, score the
            mean over them.

    Returns:
        One score per row, (N,), in [0, log C] nats.

    Raises:
        UnsupportedError: If `prediction` is not a classification.
        RangeError: If it was made without passes and no row has any spread.

    Source:
        Houlsby et al. (2011), "Bayesian active learning for classification and preference
        learning"; with dropout: Gal, Islam & Ghahramani (2017).

    Example:
        >>> from torch import nn
        >>> import mcdrop
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
        >>> pool = mcdrop.wrap(net).predict_with_uncertainty(
        ...     torch.randn(20, 3), task="classification")
        >>> top_k(bald(pool), 5).shape  # the five rows to label
        torch.Size([5])
    """
    _require_classification("bald", prediction)
    return _spread("bald", prediction, prediction.mutual_information)


def max_entropy(prediction: ClassificationPrediction) -> Tensor:
    """Entropy of the predicted class: total uncertainty, whatever its source.

    H[mean_s p_s(y | x)]. Unlike `bald` it is also high where classes overlap, so that no label
    would settle them.

    Args:
        prediction: Classification of N rows. Rows with several outputs score the mean over them.

    Returns:
        One score per row, (N,), in [0, log C] nats.

    Raises:
        UnsupportedError: If `prediction` is not a classification.

    Source:
        Shannon (1948); Settles (2009), section 3.1.

    Example:
        >>> half = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
        >>> p = ClassificationPrediction(
        ...     probs=half, probs_std=0 * half, expected_entropy=torch.zeros(2),
        ...     variation_ratio=torch.zeros(2), mcse=0 * half, n_samples=0)
        >>> max_entropy(p)
        tensor([0.6931, 0.3251])
    """
    _require_classification("max_entropy", prediction)
    return _per_row(prediction.predictive_entropy)


def variation_ratio(prediction: ClassificationPrediction) -> Tensor:
    """Share of passes that do not vote for a row's most voted class.

    1 - max_c #{s: argmax p_s = c} / S.

    Args:
        prediction: Classification of N rows. Rows with several outputs score the mean over them.

    Returns:
        One score per row, (N,), in [0, 1 - 1/C]; many rows tie, as it takes at most S values.

    Raises:
        UnsupportedError: If `prediction` is not a classification.
        RangeError: If it was made without passes and no row has any spread.

    Source:
        Freeman (1965); as acquisition: Gal, Islam & Ghahramani (2017).

    Example:
        >>> half = torch.tensor([[0.5, 0.5]])
        >>> p = ClassificationPrediction(
        ...     probs=half, probs_std=half, expected_entropy=torch.zeros(1),
        ...     variation_ratio=torch.tensor([0.5]), mcse=half / 2, n_samples=4)
        >>> variation_ratio(p)  # two of the four passes vote for class 0, two for class 1
        tensor([0.5000])
    """
    _require_classification("variation_ratio", prediction)
    return _spread("variation_ratio", prediction, prediction.variation_ratio)


def max_variance(prediction: RegressionPrediction) -> Tensor:
    """Variance over passes of a row's predicted mean: the epistemic part alone.

    Var_s[m_s(x)]. Observation noise is left out: a label cannot reduce it.

    Args:
        prediction: Regression of N rows. Rows with several outputs score the mean over them, so
            give the outputs comparable units.

    Returns:
        One score per row, (N,), units of y squared.

    Raises:
        UnsupportedError: If `prediction` is not a regression.
        RangeError: If it was made without passes and no row has any spread.

    Source:
        MacKay (1992), "Information-based objective functions for active data selection".

    Example:
        >>> one = torch.ones(2, 1)
        >>> p = RegressionPrediction(
        ...     mean=one, epistemic_variance=torch.tensor([[4.0], [1.0]]),
        ...     aleatoric_variance=9 * one, mcse=one, n_samples=4)
        >>> max_variance(p)
        tensor([4., 1.])
    """
    if not isinstance(prediction, RegressionPrediction):
        raise UnsupportedError.of(
            "max_variance",
            "prediction",
            "be a RegressionPrediction",
            type(prediction).__name__,
            "Rank classifications by bald, max_entropy or variation_ratio",
        )
    return _spread("max_variance", prediction, prediction.epistemic_variance)


def top_k(scores: Any, k: int) -> Tensor:
    """Rows with the k highest scores, the best first; of equal scores, the earlier row.

    Args:
        scores: One score per row, higher is more informative, (N,), torch or NumPy.
        k: How many rows, 1 <= k <= N.

    Returns:
        Row numbers, (k,), int64, on the device of `scores`.

    Raises:
        ShapeError: If `scores` is not (N,).
        RangeError: If `k` is not a whole number in [1, N].
        NonFiniteError: If a score is NaN or infinite.

    Source:
        Gal, Islam & Ghahramani (2017) acquire the k best rows of each round this way.

    Example:
        >>> top_k(torch.tensor([0.1, 0.7, 0.7, 0.2]), 3)
        tensor([1, 2, 3])
    """
    values = scores if isinstance(scores, Tensor) else torch.from_numpy(np.array(scores))
    if values.ndim != 1:
        raise ShapeError.of(
            "top_k", "scores", "have shape (N,)", shown(values.shape), "Pass one score per row"
        )
    require_k("top_k", k, len(values))
    require_finite("top_k", scores=values)
    return values.argsort(descending=True, stable=True)[:k]


def require_k(function: str, k: int, n_rows: int) -> None:
    """Refuse what is not a number of rows to take from `n_rows`."""
    require_count(function, "k", k)
    if k > n_rows:
        raise RangeError.of(
            function, "k", f"be at most {n_rows}, the number of rows", k, "Ask for fewer rows"
        )


def _require_classification(function: str, prediction: object) -> None:
    if not isinstance(prediction, ClassificationPrediction):
        raise UnsupportedError.of(
            function,
            "prediction",
            "be a ClassificationPrediction",
            type(prediction).__name__,
            "Rank regressions by max_variance",
        )


def _per_row(values: Tensor) -> Tensor:
    """Average what a row has several of, (N, ...) to (N,)."""
    return values if values.ndim == 1 else values.flatten(1).mean(dim=1)


def _spread(
    function: str, prediction: ClassificationPrediction | RegressionPrediction, values: Tensor
) -> Tensor:
    """Return scores by row; refuse a prediction that has no spread to rank rows by."""
    if prediction.n_samples < 2 and not bool((values > 0).any()):
        raise RangeError.of(
            function,
            "prediction",
            "have spread between passes",
            f"{prediction.n_samples} passes and a score of 0 in every row",
            "Predict with live dropout",
        )
    return _per_row(values)
