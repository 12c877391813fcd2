"""What an argument may be: levels, choices, spreads, probabilities and labels."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral
from typing import Literal, cast

import torch

from mcdrop.errors import RangeError, ShapeError
from mcdrop.metrics._arrays import (
    ArrayLike,
    Origin,
    require_finite,
    require_rows,
    require_same_shape,
    rows_text,
    shown,
    take,
)

Outcome = Literal["multiclass", "binary"]

# Softmax in half precision, averaged passes and rounded files miss one by this much.
_SUM_TOLERANCE = 1e-3


def require_choice(function: str, argument: str, value: object, choices: Collection[str]) -> None:
    """Require one of the named options."""
    if value not in choices:
        named = ", ".join(f'"{choice}"' for choice in choices)
        raise RangeError.of(
            function, argument, f"be one of {named}", repr(value), "Pick one of these names"
        )


def require_open_unit(function: str, argument: str, value: float) -> None:
    """Require a number strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise RangeError.of(
            function, argument, "lie in (0, 1)", value, "Write ninety percent as 0.9"
        )


def require_count(function: str, argument: str, value: object, *, least: int = 1) -> None:
    """Require a whole number of at least `least`, Python's or NumPy's."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(cast(int, value)) < least:
        raise RangeError.of(
            function,
            argument,
            f"be a whole number of at least {least}",
            repr(value),
            "Pass a larger whole number",
        )


def require_spread(
    function: str, name: str, values: torch.Tensor, *, axis: int = 0, zero: bool = False
) -> None:
    """Require standard deviations above 0, or of at least 0 where `zero` is allowed."""
    bad = values < 0 if zero else values <= 0
    if bool(bad.any()):
        raise RangeError.of(
            function,
            name,
            "be at least 0" if zero else "be greater than 0",
            f"{float(values[bad][0]):g} in {rows_text(bad, axis)}",
            "Pass standard deviations, not logarithms"
            if bool((values < 0).any())
            else "Add the observation noise or drop these rows",
        )


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
    require_unit_range(function, p, slack=0.0 if kind == "binary" else tolerance)
    if kind != "binary":
        _require_sum_to_one(function, p, tolerance)
    require_labels(function, "y", labels, 2 if kind == "binary" else p.shape[1])
    return origin, p, labels.long()


def require_unit_range(function: str, p: torch.Tensor, *, slack: float = 0.0) -> None:
    """Require probabilities between 0 and 1."""
    bad = (p < 0) | (p > 1 + slack)
    if bool(bad.any()):
        raise RangeError.of(
            function,
            "probs",
            "lie in [0, 1]",
            f"{float(p[bad][0]):g} in {rows_text(bad)}",
            "Pass probabilities, not logits: apply softmax or sigmoid first",
        )


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


def require_labels(function: str, name: str, labels: torch.Tensor, classes: int) -> None:
    """Require whole numbers from 0 to classes - 1."""
    bad = (labels < 0) | (labels >= classes) | (labels != labels.floor())
    if bool(bad.any()):
        raise RangeError.of(
            function,
            name,
            f"hold class indices from 0 to {classes - 1}",
            f"{float(labels[bad][0]):g} in {rows_text(bad)}",
            "Number the classes from 0 in the order of the columns"
            if classes > 2
            else "Code the two outcomes as 0 and 1",
        )
