"""From the output of a model to class probabilities, or to a mean with a noise variance."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mcdrop.errors import McdropError, OutputError, ShapeError
from mcdrop.prediction.classification import entropy

__all__ = [
    "OutputType",
    "class_distributions",
    "class_probabilities",
    "class_scores",
    "mean_and_variance",
    "score_distributions",
    "score_probabilities",
]

OutputType = Literal["logits", "probs", "log_probs", "log_variance", "variance"]

# Rows of probabilities may miss 1 by this much: half precision keeps three digits.
_SUM_TOLERANCE = 1e-3
# Up to so many classes in the last dimension, torch's softmax takes longer: over ten of them, four
# times as long.
_FEW_CLASSES = 64


def class_probabilities(
    function: str,
    values: Tensor,
    output_type: OutputType,
    *,
    binary: bool,
    multilabel: bool = False,
) -> Tensor:
    """Turn model outputs into class probabilities; refuse those that contradict `output_type`.

    Args:
        function: Public function to name in errors.
        values: OutputType of several passes, (s, n, C, ...), or (s, n), (s, n, 1) and, for several
            labels, (s, n, L, ...) if binary.
        output_type: What they are: "logits", "probs" or "log_probs".
        binary: Whether every score stands for class 1 of two.
        multilabel: Whether there are several such scores per row.

    Returns:
        Probabilities with classes along dimension 2; C = 2 if binary.

    Raises:
        ShapeError: If there are no classes where they should be.
        OutputError: If the values cannot be what `output_type` says.
    """
    if binary:
        return _two_class(function, values, output_type, multilabel)
    return _many_class(function, values, output_type)


def check_classes(
    function: str,
    values: Tensor,
    output_type: OutputType,
    *,
    binary: bool,
    multilabel: bool = False,
) -> None:
    """Refuse what `class_probabilities` does, without turning all values into probabilities."""
    if binary:
        _positive(function, values, output_type, multilabel)
        return
    _require_classes(function, values)
    # Logits have only to differ from probabilities somewhere.
    if output_type != "logits" or _are_normalized(values[:1].float().sum(dim=2)):
        _check_many_class(function, values.to(torch.float64), output_type)


def class_distributions(
    function: str,
    values: Tensor,
    output_type: OutputType,
    *,
    binary: bool,
    multilabel: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return what `class_probabilities` does, and the entropies over the classes, in nats."""
    if binary or output_type != "logits":
        probs = class_probabilities(
            function, values, output_type, binary=binary, multilabel=multilabel
        )
        return probs, entropy(probs, dim=2)
    _check_many_class(function, values, output_type)
    return _softmax_and_entropy(values)


def _many_class(function: str, values: Tensor, output_type: OutputType) -> Tensor:
    """Turn outputs into probabilities over C classes along dimension 2."""
    _check_many_class(function, values, output_type)
    if output_type == "logits":
        return _softmax(values)
    return values.exp() if output_type == "log_probs" else values


def _require_classes(function: str, values: Tensor) -> None:
    if values.ndim < 3 or values.shape[2] < 2:
        raise ShapeError.of(
            function,
            "model",
            "return (N, C) class scores with C >= 2 for task='classification'",
            f"shape {tuple(values.shape[1:])}",
            "For one score per row use task='binary'; for real values task='regression'",
        )


def _are_normalized(total: Tensor) -> bool:
    return bool(((total - 1).abs() < _SUM_TOLERANCE).all())


def _check_many_class(function: str, values: Tensor, output_type: OutputType) -> None:
    """Refuse outputs over C classes that contradict what they are said to be."""
    _require_classes(function, values)
    total = values.exp().sum(dim=2) if output_type == "log_probs" else values.sum(dim=2)
    normalized = _are_normalized(total)
    if output_type == "logits":
        if normalized and bool((values >= 0).all()):
            raise _mislabeled(function, "be logits", "probabilities: rows sum to 1", "'probs'")
        return
    if not normalized or (output_type == "probs" and bool((values < 0).any())):
        found = f"rows that sum to {total.min().item():.4g} ... {total.max().item():.4g}"
        raise _mislabeled(function, f"be {output_type}", found, "'logits'")


def _two_class(function: str, values: Tensor, output_type: OutputType, multilabel: bool) -> Tensor:
    """Turn scores of class 1 into probabilities of classes 0 and 1 along dimension 2."""
    values = _positive(function, values, output_type, multilabel)
    if output_type == "logits":
        return torch.stack([(-values).sigmoid(), values.sigmoid()], dim=2)
    return torch.stack([1 - values, values], dim=2)


def _positive(function: str, values: Tensor, output_type: OutputType, multilabel: bool) -> Tensor:
    """Return the logits or probabilities of class 1; refuse what cannot be either."""
    if not multilabel and values.ndim == 3 and values.shape[2] == 1:
        values = values.squeeze(2)
    if (values.ndim != 2) != multilabel:
        task, other = ("multilabel", "binary") if multilabel else ("binary", "classification")
        shape = "scores per row, (N, L)" if multilabel else "score per row, (N,) or (N, 1),"
        raise ShapeError.of(
            function,
            "model",
            f"return {'several' if multilabel else 'one'} {shape} for task={task!r}",
            f"shape {tuple(values.shape[1:])}",
            f"See task={other!r} for the other case",
        )
    if output_type == "logits":
        return values
    positive = values.exp() if output_type == "log_probs" else values
    if bool(((positive < 0) | (positive > 1)).any()):
        found = f"values from {positive.min().item():.4g} to {positive.max().item():.4g}"
        raise _mislabeled(function, f"be {output_type}", found, "'logits'")
    return positive


def class_scores(values: Tensor, output_type: OutputType, *, binary: bool) -> Tensor:
    """Turn model outputs into scores, of which any real number is one: logits or their like.

    Args:
        values: Outputs of several passes, as for `class_probabilities`.
        output_type: What they are: "logits", "probs" or "log_probs".
        binary: Whether every one stands for class 1 of two.

    Returns:
        Logits, or log-probabilities, which are logits as well; of the same shape.
    """
    if output_type == "logits" or (output_type == "log_probs" and not binary):
        return values
    probs = values.exp() if output_type == "log_probs" else values
    least = torch.finfo(probs.dtype).eps ** 2
    if binary:
        return probs.clamp_min(least).log() - (1 - probs).clamp_min(least).log()
    return probs.clamp_min(least).log()


def score_probabilities(scores: Tensor, *, binary: bool, multilabel: bool = False) -> Tensor:
    """Return what `class_probabilities` does for scores, without looking at them.

    Args:
        scores: From `class_scores`.
        binary: As there.
        multilabel: As there.
    """
    if not binary:
        return _softmax(scores)
    if not multilabel and scores.ndim == 3:
        scores = scores.squeeze(2)
    return torch.stack([(-scores).sigmoid(), scores.sigmoid()], dim=2)


def score_distributions(
    scores: Tensor, *, binary: bool, multilabel: bool = False
) -> tuple[Tensor, Tensor]:
    """Return what `score_probabilities` does, and the entropies over the classes, in nats.

    Args:
        scores: From `class_scores`.
        binary: As there.
        multilabel: As there.
    """
    if not binary:
        return _softmax_and_entropy(scores)
    probs = score_probabilities(scores, binary=binary, multilabel=multilabel)
    return probs, entropy(probs, dim=2)


def _softmax_and_entropy(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax and entropy along dimension 2."""
    # With z = sum exp(s - max s), H = log z - sum p (s - max s): no logarithm of every probability.
    shifted = scores - scores.amax(dim=2, keepdim=True)
    odds = shifted.exp()
    total = odds.sum(dim=2, keepdim=True)
    probs = odds.div_(total)
    return probs, (total.log_().squeeze(2) - shifted.mul_(probs).sum(dim=2)).clamp_min_(0)


def _softmax(scores: Tensor) -> Tensor:
    """Return the softmax along dimension 2."""
    if scores.ndim > 3 or scores.shape[2] > _FEW_CLASSES:
        return scores.softmax(dim=2)
    odds = (scores - scores.amax(dim=2, keepdim=True)).exp_()
    return odds.div_(odds.sum(dim=2, keepdim=True))


def _mislabeled(function: str, condition: str, found: str, instead: str) -> McdropError:
    return OutputError.of(
        function,
        "output_type",
        f"say what the model returns: {condition}",
        found,
        f"Pass output_type={instead}",
    )


def mean_and_variance(
    function: str, values: Tensor, output_type: OutputType
) -> tuple[Tensor, Tensor]:
    """Split pairs into means and noise variances.

    Args:
        function: Public function to name in errors.
        values: Means and spreads, (s, n, ..., 2).
        output_type: What the second one is: "log_variance" or "variance".

    Raises:
        OutputError: If a variance is not positive.
    """
    mean, spread = values.unbind(dim=-1)
    variance = spread.exp() if output_type == "log_variance" else spread
    if not bool((variance > 0).all()):
        raise OutputError.of(
            function,
            "output_type",
            "say what the second output is: variances are positive",
            f"values down to {spread.min().item():.4g}",
            "Pass output_type='log_variance'",
        )
    return mean, variance
