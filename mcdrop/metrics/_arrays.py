"""NumPy, torch or lists become float64 tensors; results return in the caller's type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from mcdrop.checks import require_finite, require_readable, shown
from mcdrop.errors import RangeError, ShapeError, UnsupportedError

Array: TypeAlias = torch.Tensor | npt.NDArray[Any]
ArrayLike: TypeAlias = Array | Sequence[Any]
Float64: TypeAlias = npt.NDArray[np.float64]

# Arguments that do not decide the dtype of the result.
_NOT_PREDICTIONS = frozenset({"y", "loss", "is_error", "is_ood", "weights"})


@dataclass(frozen=True)
class Origin:
    """Where results go back to: a torch device or (None) NumPy, and the floating dtype."""

    device: torch.device | None
    dtype: torch.dtype

    def restore(self, scores: torch.Tensor) -> Array:
        """Hand per-row scores back in the kind and dtype of the predictions."""
        scores = scores.to(self.dtype)
        return scores.numpy() if self.device is None else scores


def take(function: str, **arrays: ArrayLike) -> tuple[Origin, list[torch.Tensor]]:
    """Turn named arguments into tensors of one device in the widest dtype it has."""
    raw = {name: _raw(function, name, value) for name, value in arrays.items()}
    devices = [value.device for value in raw.values() if isinstance(value, torch.Tensor)]
    device = devices[0] if devices else None
    dtypes = [_dtype(value) for name, value in raw.items() if name not in _NOT_PREDICTIONS]
    dtype = dtypes[0]
    for other in dtypes[1:]:
        dtype = torch.promote_types(dtype, other)
    return Origin(device, dtype), [_wide(value, device) for value in raw.values()]


def _raw(function: str, name: str, value: ArrayLike) -> Array:
    require_readable(function, name, value)
    if isinstance(value, torch.Tensor):
        array: Array = value
        numeric = not value.is_complex()
    else:
        try:
            array = np.asarray(value)
        except ValueError:
            raise ShapeError.of(
                function, name, "be rectangular", "rows of unequal length", "Pad or drop rows"
            ) from None
        except (RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UnsupportedError.of(
                function,
                name,
                "be an array",
                f"{type(value).__name__} ({reason})",
                "Stack it first",
            ) from None
        numeric = array.dtype.kind in "buif"
    if not numeric:
        raise UnsupportedError.of(
            function, name, "hold real numbers", f"dtype {array.dtype}", "Convert it to floats"
        )
    return array


def _dtype(array: Array) -> torch.dtype:
    if isinstance(array, torch.Tensor):
        return array.dtype if array.is_floating_point() else torch.get_default_dtype()
    narrow = {"float16": torch.float16, "float32": torch.float32}
    return narrow.get(array.dtype.name, torch.float64)


def _wide(array: Array, device: torch.device | None) -> torch.Tensor:
    # Apple's GPU is the one device without float64.
    wide = torch.float32 if device is not None and device.type == "mps" else torch.float64
    if isinstance(array, torch.Tensor):
        return array.to(device=device, dtype=wide)
    dense = np.asarray(array, dtype=np.float64, order="C")
    # torch warns about memory that NumPy protects, and takes no negative stride, which NumPy
    # leaves on an axis of one element.
    if not dense.flags.writeable or min(dense.strides, default=0) < 0:
        dense = dense.copy()
    return torch.from_numpy(dense).to(device=device, dtype=wide)


def take_weights(function: str, weights: ArrayLike | None, like: torch.Tensor) -> torch.Tensor:
    """Row weights as a tensor of shape (N,); ones if none are given."""
    n = like.shape[0]
    if weights is None:
        return torch.ones(n, dtype=like.dtype, device=like.device)
    values = _wide(_raw(function, "weights", weights), like.device)
    values = values.to(dtype=like.dtype, device=like.device)
    if values.shape != (n,):
        raise ShapeError.of(
            function,
            "weights",
            f"have shape ({n},)",
            shown(values.shape),
            "Pass one weight per row",
        )
    require_finite(function, weights=values)
    if bool((values < 0).any()) or not bool((values > 0).any()):
        raise RangeError.of(
            function,
            "weights",
            "be at least 0 and not all 0",
            f"a smallest weight of {float(values.min()):g} and a sum of {float(values.sum()):g}",
            "Pass how much each row counts",
        )
    return values


def tensor_of(value: Any) -> torch.Tensor:
    """Return a tensor as it is, and an array or number as one on the CPU.

    `torch.as_tensor` would bring either to the default device, which the caller may have changed.
    """
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value, device="cpu")


def require_passes(
    function: str, name: str, samples: torch.Tensor, y: torch.Tensor, *, least: int = 1
) -> None:
    """Require shape (S, *y.shape) with at least `least` passes."""
    want = f"({', '.join(['S', *map(str, y.shape)])})"
    if samples.ndim == y.ndim + 1 and samples.shape[1:] == y.shape:
        if samples.shape[0] < least:
            condition = f"have shape {want} with S >= {least}"
            raise ShapeError.of(function, name, condition, shown(samples.shape), "Draw more passes")
        return
    if samples.ndim == y.ndim + 1 and samples.shape[: y.ndim] == y.shape:
        remedy = f"Put passes first: {name}.T" if y.ndim == 1 else "Put passes first"
    elif samples.shape[1:] == (*y.shape, 1):
        remedy = f"Drop the last axis: {name}.squeeze(-1)"
    elif y.ndim > 1 and (*samples.shape[1:], 1) == tuple(y.shape):
        remedy = "Drop the last axis of `y`: y.squeeze(-1)"
    else:
        remedy = "Put passes first, then one value per target"
    condition = f"have shape {want} to match `y`"
    raise ShapeError.of(function, name, condition, shown(samples.shape), remedy)


def float64(values: torch.Tensor) -> Float64:
    """Bring a tensor to the CPU as a NumPy array."""
    array: Float64 = values.detach().cpu().double().numpy()
    return array


def row_means(values: torch.Tensor) -> torch.Tensor:
    """Average everything but the rows: (N, ...) to (N,)."""
    return values.reshape(values.shape[0], math.prod(values.shape[1:])).mean(dim=1)
