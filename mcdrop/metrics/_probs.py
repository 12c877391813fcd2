"""Class probabilities and labels as they come in."""

from __future__ import annotations

from typing import Literal

import torch

from mcdrop.checks import (
    require_finite,
    require_labels,
    require_probabilities,
    require_rows,
    require_same_shape,
    rows_text,
    shown,
)
from mcdrop.errors import RangeError, ShapeError
from mcdrop.metrics._arrays import ArrayLike, Origin, take

LabelKind = Literal["multiclass", "binary"]

# Softmax in half precision, averaged passes and rounded files miss one by this much.
_SUM_TOLERANCE = 1e-3


def take_probs(
    function: str, probs: ArrayLike, y: ArrayLike, *, kind: str
) -> tuple[Origin, torch.Tensor, torch.Tensor]:
    """Take probabilities and labels: (N, C) and (N,), or for "binary" both of one shape."""
    origin, (p, labels) = take(function, probs=probs, y=y)
    require_rows(function, "y", labels)
    require_rows(function, "probs", p)
    if kind == "binary":
        require_same_shape(function, "probs", p, labels)
    else:
        _require_classes(function, p, labels)
    require_finite(function, probs=p, y=labels)
    tolerance = max(_SUM_TOLERANCE, torch.finfo(origin.dtype).eps)
    require_probabilities(function, "probs", p, slack=0.0 if kind == "binary" else tolerance)
    if kind != "binary":
        _require_sum_to_one(function, p, tolerance)
    require_labels(function, "y", labels, 2 if kind == "binary" else p.shape[1])
    return origin, p, labels.long()


def _require_classes(function: str, p: torch.Tensor, labels: torch.Tensor) -> None:
    if labels.ndim != 1:
        remedy = (
            "Pass class indices, not one-hot rows: y.argmax(-1)"
            if labels.shape == p.shape
            else "Pass one class index per row"
        )
        raise ShapeError.of(function, "y", "have shape (N,)", shown(labels.shape), remedy)
    if p.ndim != 2 or p.shape[0] != labels.shape[0]:
        remedy = (
            'Say kind="binary" if these are P(y = 1)'
            if p.shape == labels.shape
            else "Pass one row of class probabilities per label"
        )
        condition = f"have shape ({labels.shape[0]}, C) to match `y`"
        raise ShapeError.of(function, "probs", condition, shown(p.shape), remedy)
    if p.shape[1] < 2:
        raise ShapeError.of(
            function,
            "probs",
            "have at least two columns",
            shown(p.shape),
            'Pass P(y = 1) with shape (N,) and kind="binary"',
        )


def _require_sum_to_one(function: str, p: torch.Tensor, tolerance: float) -> None:
    sums = p.sum(dim=1)
    bad = (sums - 1).abs() > tolerance
    if bool(bad.any()):
        raise RangeError.of(
            function,
            "probs",
            "have rows that sum to one",
            f"a sum of {float(sums[bad][0]):g} in {rows_text(bad)}",
            "Pass probabilities, not logits: softmax(logits, -1)",
        )
