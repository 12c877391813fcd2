"""Accuracy and proper scores of predicted class probabilities."""

from __future__ import annotations

import torch

from mcdrop.checks import require_choice
from mcdrop.metrics._arrays import Array, ArrayLike, row_means, take_weights
from mcdrop.metrics._probs import LabelKind, take_probs
from mcdrop.metrics._reduction import Reduction, finished, mean_of

_KINDS = ("multiclass", "binary")


@finished
def accuracy(
    probs: ArrayLike,
    y: ArrayLike,
    *,
    kind: LabelKind = "multiclass",
    weights: ArrayLike | None = None,
) -> Reduction[float]:
    """Share of rows whose most probable class is the label; higher is better.

    accuracy = mean over rows of 1[argmax_c probs_c = y]; the first class wins a tie. Binary:
    the prediction is 1 where probs > 0.5.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape of `y`.
        y: Class indices, shape (N,); for "binary" zeros and ones of any shape (N, ...).
        kind: "multiclass" or "binary".
        weights: How much each row counts, shape (N,); equal by default.

    Returns:
        A share between 0 and 1.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities or `y` not class indices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Hastie, Tibshirani & Friedman (2009) (one minus the 0-1 loss).

    Example:
        >>> accuracy([[0.9, 0.1], [0.6, 0.4]], [0, 1])
        0.5
    """
    require_choice("accuracy", "kind", kind, _KINDS)
    _, p, labels = take_probs("accuracy", probs, y, kind=kind)
    predicted = p.argmax(dim=1) if kind == "multiclass" else (p > 0.5).long()
    correct = (predicted == labels).to(p.dtype)
    return mean_of(row_means(correct), take_weights("accuracy", weights, p), "share")


def nll_categorical(probs: ArrayLike, y: ArrayLike, *, kind: LabelKind = "multiclass") -> Array:
    """Negative log-likelihood of the label (log loss); lower is better.

    NLL = -log probs[y]. A label that was given probability 0 scores infinity: nothing is
    clipped, since the result would then depend on the constant.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape of `y`.
        y: Class indices, shape (N,); for "binary" zeros and ones of any shape (N, ...).
        kind: "multiclass" or "binary".

    Returns:
        One score per label in nats, in the shape of `y`, kind and dtype of `probs`.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities or `y` not class indices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Gneiting & Raftery (2007) (logarithmic score).

    Example:
        >>> nll_categorical([[0.25, 0.75]], [0]).round(4)  # log 4
        array([1.3863])
    """
    require_choice("nll_categorical", "kind", kind, _KINDS)
    origin, p, labels = take_probs("nll_categorical", probs, y, kind=kind)
    if kind == "binary":
        return origin.restore(-torch.where(labels == 1, p.log(), torch.log1p(-p)))
    return origin.restore(-p.gather(1, labels[:, None]).squeeze(1).log())


def brier_score(probs: ArrayLike, y: ArrayLike, *, kind: LabelKind = "multiclass") -> Array:
    """Brier score: squared distance between probabilities and outcome; lower is better.

    Brier = sum over classes of (probs_c - 1[y = c])^2, between 0 and 2. Binary:
    (probs - y)^2, between 0 and 1, half the two-class sum.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape of `y`.
        y: Class indices, shape (N,); for "binary" zeros and ones of any shape (N, ...).
        kind: "multiclass" or "binary".

    Returns:
        One score per label, in the shape of `y`, kind and dtype of `probs`.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities or `y` not class indices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Brier (1950); the sum over classes is the original form.

    Example:
        >>> brier_score([[0.5, 0.5]], [0])
        array([0.5])
        >>> brier_score([0.5], [0], kind="binary")
        array([0.25])
    """
    require_choice("brier_score", "kind", kind, _KINDS)
    origin, p, labels = take_probs("brier_score", probs, y, kind=kind)
    if kind == "binary":
        return origin.restore((p - labels).square())
    outcome = torch.nn.functional.one_hot(labels, p.shape[1])
    return origin.restore((p - outcome).square().sum(dim=1))
