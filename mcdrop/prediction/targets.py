"""Targets for the rows of a prediction: numbers, in its shape, labels that are its classes."""

from __future__ import annotations

from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop._engine.arrays import is_pandas
from mcdrop.checks import require_finite, require_labels, require_readable
from mcdrop.errors import RangeError, ShapeError, UnsupportedError
from mcdrop.prediction.tables import plain_label

__all__ = [
    "aligned_targets",
    "checked_levels",
    "class_labels",
    "numbers",
    "require_same_rows",
    "row_index",
]


def numbers(function: str, argument: str, values: Any) -> Tensor:
    """Return a Tensor, ndarray, DataFrame or list as a float64 tensor; a tensor keeps its device.

    Args:
        function: Public function to name in errors.
        argument: Its argument, without quotes.
        values: Numbers or booleans, of dtype object too, as in a DataFrame of mixed columns.

    Raises:
        UnsupportedError: If these are not real numbers, or some of them cannot be read.
        ShapeError: If rows of a list have different lengths.
    """
    require_readable(function, argument, values)
    if isinstance(values, Tensor) and not values.is_complex():
        return values.double()
    try:
        plain = np.asarray(values if not isinstance(values, Tensor) else values.detach().cpu())
    except ValueError:
        raise ShapeError.of(
            function, argument, "be rectangular", "rows of unequal length", "Pad or drop rows"
        ) from None
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UnsupportedError.of(
            function,
            argument,
            "be an array",
            f"{type(values).__name__} ({reason})",
            "Stack it first",
        ) from None
    if plain.dtype.kind in "buifO":
        try:
            # A copy, because torch warns about memory that NumPy protects from writing.
            return torch.from_numpy(np.array(plain, dtype=np.float64, order="C"))
        except (TypeError, ValueError):
            pass
    raise UnsupportedError.of(
        function,
        argument,
        "hold numbers",
        f"dtype {plain.dtype}",
        "Encode text as numbers, and labels as class indices",
    )


def aligned_targets(
    function: str, y: Any, like: Tensor, *, argument: str = "y", index: Any = None
) -> Tensor:
    """Return `y` as float64 in the shape and on the device of `like`.

    Args:
        function: Public function to name in errors.
        y: One target per value of `like`; dimensions of size 1 may be missing or added, so that
            (N,) stands for (N, 1).
        like: What was predicted, (N, ...).
        argument: Name of `y` in the public function.
        index: pandas index of the rows predicted, or None.

    Raises:
        ShapeError: If the shapes do not match.
        RangeError: If `y` carries an index of other rows, or of these in another order.
        UnsupportedError: If `y` does not hold numbers.
    """
    target = numbers(function, argument, y).to(like.device)
    if target.shape[:1] != like.shape[:1] or _sizes(target) != _sizes(like):
        raise ShapeError.of(
            function,
            argument,
            f"have shape {tuple(like.shape)} to match `prediction`",
            tuple(target.shape),
            "Pass one target per predicted value, in the same row order",
        )
    require_same_rows(function, argument, row_index(y), index)
    return target.reshape(like.shape)


def row_index(values: Any) -> Any:
    """Return the pandas index of a Series or DataFrame; None for values that carry none."""
    return values.index if is_pandas(values) else None


def require_same_rows(
    function: str, argument: str, found: Any, wanted: Any, *, of: str = "prediction"
) -> None:
    """Refuse labels of other rows; an index that only counts rows says nothing about them.

    Labels are compared as a saved prediction holds them, where dates of any type are text.

    Args:
        function: Public function to name in errors.
        argument: Its argument, without quotes.
        found: pandas index of its rows, or None.
        wanted: That of the rows it has to match, or None.
        of: Argument that has these rows.

    Raises:
        RangeError: If both have labels, and these differ.
    """
    if found is None or wanted is None or found.equals(wanted):
        return
    given, expected = ([plain_label(label) for label in each] for each in (found, wanted))
    if given == expected:
        return
    if set(given) == set(expected):
        told = "the same labels in another order"
    elif list(range(len(expected))) in (given, expected):
        return
    else:
        differ = (a != b for a, b in zip(given, expected, strict=True))
        a, b = next(compress(zip(found, wanted, strict=True), differ))
        told = f"{a!r} where it has {b!r}"
    raise RangeError.of(
        function,
        argument,
        f"have the index of `{of}`",
        told,
        f"Pass .loc[{of}.index] of it, or its .to_numpy() if the rows match by place",
    )


def class_labels(
    function: str, y: Any, probs: Tensor, *, argument: str = "y", index: Any = None
) -> Tensor:
    """Return the labels as int64, (N, ...), each a class of `probs`, (N, C, ...).

    Args:
        function: Public function to name in errors.
        y: Whole numbers in [0, C), of any dtype.
        probs: Class probabilities, classes along dimension 1.
        argument: Name of `y` in the public function.
        index: pandas index of the rows predicted, or None.

    Raises:
        ShapeError: If there is not one label per row.
        UnsupportedError: If `y` does not hold numbers.
        NonFiniteError: If a label is NaN or infinite.
        RangeError: If a label is no class, or `y` carries another index.
    """
    labels = aligned_targets(function, y, probs[:, 0], argument=argument, index=index)
    require_finite(function, axis=0, **{argument: labels})
    require_labels(function, argument, labels, probs.shape[1])
    return labels.long()


def checked_levels(function: str, argument: str, levels: Any) -> Tensor:
    """Return one level as a tensor without dimensions or several as (Q,), each in (0, 1)."""
    found = numbers(function, argument, levels)
    if found.ndim > 1 or not found.numel():
        raise ShapeError.of(
            function,
            argument,
            "be one level or a list of levels",
            f"shape {tuple(found.shape)}",
            "Pass a number such as 0.9, or a list of numbers",
        )
    # Written so that NaN counts as outside.
    outside = ~((found > 0) & (found < 1))
    if bool(outside.any()):
        raise RangeError.of(
            function,
            argument,
            "lie in (0, 1)",
            f"{found[outside].flatten()[0].item():g}",
            "Pass probabilities such as 0.9",
        )
    return found


def _sizes(values: Tensor) -> list[int]:
    """Return the sizes of a row, without the ones."""
    return [size for size in values.shape[1:] if size != 1]
