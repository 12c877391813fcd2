"""NumPy and pandas data as tensors that a model can take."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop.errors import UnsupportedError

__all__ = ["as_tensor", "is_array"]

# Kinds of NumPy types: booleans, signed and unsigned integers, floats.
_NUMBERS = "biuf"


def is_array(value: Any) -> bool:
    """Tell whether a value is an ndarray, a Series or a DataFrame."""
    return isinstance(value, np.ndarray) or _is_pandas(value)


def as_tensor(function: str, value: Any, dtype: torch.dtype, *, keep_integers: bool) -> Tensor:
    """Return a tensor of its own memory.

    Floating point numbers become `dtype`. Integers and booleans of an ndarray keep their type, as
    indices do. Those of pandas are features and become `dtype` too, unless the model looks up
    embeddings.

    Args:
        function: Public function to name in errors.
        value: ndarray, Series or DataFrame, of any byte order, nullable or not.
        dtype: Floating point type of the model.
        keep_integers: Whether integer columns of pandas stay integers.

    Raises:
        UnsupportedError: If it holds anything but real numbers.
    """
    is_pandas = _is_pandas(value)
    array = _numbers(function, value.to_numpy() if is_pandas else value)
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float64)).to(dtype)
    # torch knows few of its operations for unsigned integers of more than eight bits.
    wide = array.dtype.kind == "u" and array.dtype.itemsize > 1
    tensor = torch.from_numpy(array.astype(np.int64) if wide else array.copy())
    if is_pandas and not (keep_integers and array.dtype.kind in "iu"):
        return tensor.to(dtype)
    return tensor


def _numbers(function: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the numbers in native byte order; objects are read as floats, None as NaN."""
    if array.dtype.kind == "O":
        try:
            array = np.asarray(array.tolist(), dtype=np.float64)
        except (TypeError, ValueError):
            found = sorted({type(item).__name__ for item in array.flat})
            raise _no_numbers(function, f"{', '.join(found[:5])} objects") from None
    if array.dtype.kind not in _NUMBERS:
        raise _no_numbers(function, f"dtype {array.dtype}")
    return array.astype(array.dtype.newbyteorder("="))


def _no_numbers(function: str, found: str) -> Exception:
    return UnsupportedError.of(
        function, "inputs", "hold numbers", found, "Encode text, categories and dates as numbers"
    )


def _is_pandas(value: Any) -> bool:
    """Whether a value is a pandas object, without importing pandas."""
    return hasattr(value, "to_numpy") and hasattr(value, "iloc")
