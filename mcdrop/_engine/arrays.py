"""NumPy and pandas data as tensors that a model can take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop.checks import require_readable
from mcdrop.errors import UnsupportedError

__all__ = ["as_tensor", "is_array", "is_pandas"]

# Kinds of NumPy types: booleans, signed and unsigned integers, floats.
_NUMBERS = "biuf"


def is_array(value: Any) -> bool:
    """Tell whether a value is an ndarray, a Series or a DataFrame."""
    return isinstance(value, np.ndarray) or is_pandas(value)


def as_tensor(function: str, value: Any, dtype: torch.dtype, *, keep_integers: bool) -> Tensor:
    """Return a tensor of its own memory.

    Floating point numbers become `dtype`. Integers and booleans of an ndarray keep their type, as
    indices do. Those of pandas are features and become `dtype` too, unless the model looks up
    embeddings.

    Args:
        function: Public function to name in errors.
        value: ndarray, Series or DataFrame, of any byte order, nullable or not; missing values
            become NaN.
        dtype: Floating point type of the model.
        keep_integers: Whether integer columns of pandas stay integers.

    Raises:
        UnsupportedError: If it holds anything but real numbers, or masks some of them.
    """
    require_readable(function, "inputs", value)
    is_table = is_pandas(value)
    array = _numbers(function, value.to_numpy() if is_table else value, value)
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float64)).to(dtype)
    # torch knows few of its operations for unsigned integers of more than eight bits.
    wide = array.dtype.kind == "u" and array.dtype.itemsize > 1
    tensor = torch.from_numpy(array.astype(np.int64) if wide else array.copy())
    if is_table and not (keep_integers and array.dtype.kind in "iu"):
        return tensor.to(dtype)
    return tensor


def _numbers(function: str, array: npt.NDArray[Any], given: Any) -> npt.NDArray[Any]:
    """Return the numbers in native byte order; objects are read as floats, missing ones as NaN."""
    if array.dtype.kind == "O":
        try:
            array = _floats(array)
        except (TypeError, ValueError):
            raise _no_numbers(function, _not_numbers(array, given)) from None
    if array.dtype.kind not in _NUMBERS:
        raise _no_numbers(function, f"dtype {array.dtype}")
    return array.astype(array.dtype.newbyteorder("="))


def _floats(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return objects as floats, but not text that reads as a number."""
    flat = [math.nan if _is_missing(item) else item for item in array.flat]
    if any(isinstance(item, str | bytes) for item in flat):
        raise TypeError("text")
    return np.asarray(flat, dtype=np.float64).reshape(array.shape)


def _is_missing(item: object) -> bool:
    """Whether an object is None or pandas.NA, which is known by its name without pandas."""
    return item is None or type(item).__name__ == "NAType"


def _not_numbers(array: npt.NDArray[Any], given: Any) -> str:
    """Return what the objects are, by column where columns have names."""
    columns = getattr(given, "columns", None)
    if columns is None or array.ndim != 2:
        return f"{', '.join(_kinds(array)[:5])} objects"
    found = []
    for name, column in zip(columns, array.T, strict=True):
        try:
            _floats(column)
        except (TypeError, ValueError):
            kinds = [kind for kind in _kinds(column) if kind not in ("int", "float", "bool")]
            found.append(f"{str(name)!r} ({', '.join(kinds)})")
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"column {', '.join(found[:5])}{more}"


def _kinds(array: npt.NDArray[Any]) -> list[str]:
    return sorted({type(item).__name__ for item in array.flat})


def _no_numbers(function: str, found: str) -> Exception:
    return UnsupportedError.of(
        function, "inputs", "hold numbers", found, "Encode text, categories and dates as numbers"
    )


def is_pandas(value: Any) -> bool:
    """Whether a value is a pandas object, without importing pandas."""
    return hasattr(value, "to_numpy") and hasattr(value, "iloc")
