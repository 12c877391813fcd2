"""Which tensor of a model's output is the prediction, and whether it can be one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from mcdrop.errors import McdropError, NonFiniteError, OutputError, RangeError, ShapeError

__all__ = [
    "Select",
    "Selection",
    "check_rows_finite",
    "rows_change",
    "select_tensor",
    "shape_changes",
]

Select = Callable[[Any], Any] | str | int | None


@dataclass(frozen=True)
class Selection:
    """How the prediction is picked out of what a model returns.

    Attributes:
        select: None for a plain tensor; a key, index or attribute; or a callable.
        is_pair: Whether that is a pair (mean, noise), which is then stacked along a last dimension.
        is_single: Whether every row has to hold one value, because the caller named no task.
    """

    select: Select = None
    is_pair: bool = False
    is_single: bool = False

    def pick(self, function: str, output: Any) -> Tensor:
        """Return the prediction; see `select_tensor` for what is refused.

        Args:
            function: Public function to name in errors.
            output: What ``model(...)`` returned.
        """
        if self.is_pair:
            return _side_by_side(function, _part(output, self.select))
        chosen = select_tensor(function, output, self.select)
        if self.is_single and chosen.ndim > 1 and math.prod(chosen.shape[1:]) != 1:
            raise RangeError.of(
                function,
                "task",
                "be named for a model that returns several values per row",
                f"none for an output of shape {tuple(chosen.shape)}",
                "Say task='classification' for scores of classes, or task='regression'",
            )
        return chosen

    def identity(self) -> Hashable:
        """Return a key: equal for functions of the same code that read the same values."""
        function = getattr(self.select, "__func__", self.select)
        code = getattr(function, "__code__", None)
        if code is None:
            return _Same(self.select), self.is_pair, self.is_single
        cells = getattr(function, "__closure__", None) or ()
        defaults = getattr(function, "__defaults__", None) or ()
        read = getattr(function, "__globals__", {})
        values = (
            getattr(self.select, "__self__", None),
            *(cell.cell_contents for cell in cells),
            *defaults,
            *(read[name] for name in code.co_names if name in read),
        )
        return code, tuple(map(_Same, values)), self.is_pair, self.is_single


@dataclass(frozen=True, eq=False)
class _Same:
    """Compares plain values by value and others by identity.

    It keeps them alive, so that no other object can take their place in memory.
    """

    value: Any

    def _key(self) -> object:
        plain = isinstance(self.value, bool | int | float | str | bytes | type(None))
        return (type(self.value), self.value) if plain else id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


def select_tensor(function: str, output: Any, select: Select) -> Tensor:
    """Pick the prediction out of what the model returned.

    Args:
        function: Public function to name in errors.
        output: What ``model(...)`` returned.
        select: None for a plain tensor; a key, index or attribute; or a callable.

    Returns:
        A floating point tensor with at least one dimension.

    Raises:
        OutputError: If that is not one dense floating point tensor.
        ShapeError: If it has no dimension for rows, or no values.
    """
    chosen = _part(output, select)
    if not isinstance(chosen, Tensor):
        picked = "" if select is None else f", from which select={select!r} picks {_kind(chosen)}"
        raise OutputError.of(
            function,
            "model",
            "return one tensor",
            f"{_kind(output)}{picked}",
            "Say which tensor is the prediction: select='logits', select=0 or a callable",
        )
    if chosen.is_nested or chosen.layout != torch.strided:
        raise OutputError.of(
            function,
            "model",
            "return a dense tensor",
            "a nested one" if chosen.is_nested else f"one of layout {chosen.layout}",
            "Convert it: select=lambda out: out.to_dense()",
        )
    if not chosen.is_floating_point():
        raise OutputError.of(
            function,
            "model",
            "return real numbers",
            f"a tensor of type {chosen.dtype}",
            "Return scores rather than labels",
        )
    if chosen.ndim == 0:
        raise ShapeError.of(
            function,
            "model",
            "return one row per input row",
            "a tensor without dimensions",
            "Return the predictions rather than a loss",
        )
    if chosen.shape[0] == 0:
        raise ShapeError.of(
            function,
            "model",
            "return one row per input row",
            f"a tensor {tuple(chosen.shape)} without rows",
            "Look for inputs that the model filters out",
        )
    if chosen.numel() == 0:
        raise ShapeError.of(
            function,
            "model",
            "return at least one value per row",
            f"shape {tuple(chosen.shape)}",
            "Look for what the model cuts off",
        )
    return chosen


def _part(output: Any, select: Select) -> Any:
    """Apply a callable, key, index or attribute name; None if there is no such part."""
    if callable(select):
        return select(output)
    if select is None:
        return output
    if isinstance(select, str) and not isinstance(output, Mapping):
        return getattr(output, select, None)
    try:
        return output[select]
    except (KeyError, IndexError, TypeError):
        return None


def _side_by_side(function: str, chosen: object) -> Tensor:
    """Stack the mean and the noise that a heteroscedastic model returns, (n, ..., 2)."""
    pair = chosen if isinstance(chosen, tuple | list) else ()
    tensors = [part for part in pair if isinstance(part, Tensor) and part.is_floating_point()]
    if len(pair) != 2 or len(tensors) != 2 or tensors[0].shape != tensors[1].shape:
        found = ", ".join(str(tuple(t.shape)) for t in tensors) or type(chosen).__name__
        raise OutputError.of(
            function,
            "model",
            "return (mean, log_variance) of one shape for task='heteroscedastic'",
            found,
            "Make the pair with select=lambda out: (out[:, :1], out[:, 1:])",
        )
    return torch.stack(tensors, dim=-1)


def check_rows_finite(function: str, per_pass: Tensor, first_row: int | Tensor) -> None:
    """Refuse NaN and infinity, naming the rows.

    Args:
        function: Public function to name in errors.
        per_pass: A statistic that any bad pass makes non-finite, (n, ...).
        first_row: Number of its first row among all inputs, or the numbers of all its rows.
    """
    # A finite number less itself is 0, anything else NaN, which counts as true.
    if not bool((per_pass - per_pass).any()):
        return
    bad = (~per_pass.isfinite()).reshape(per_pass.shape[0], -1).any(dim=1).nonzero().flatten()
    bad = first_row[bad] if isinstance(first_row, Tensor) else first_row + bad
    shown = ", ".join(str(row) for row in bad[:10].tolist()) + (", ..." if len(bad) > 10 else "")
    raise NonFiniteError.of(
        function,
        "model",
        "return finite numbers",
        f"NaN or infinity in {len(bad)} row(s): {shown}",
        "Look for NaN in these input rows, or leave them out",
    )


def _kind(output: Any) -> str:
    """Describe an output in a few words."""
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with keys {list(output)}"
    if is_dataclass(output):
        return f"{type(output).__name__} with fields {[f.name for f in fields(output)]}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {len(output)} ({', '.join(map(_kind, output))})"
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    return type(output).__name__


def shape_changes(function: str, shapes: Collection[torch.Size]) -> McdropError:
    """Make the error for an output whose shape changes by pass."""
    return ShapeError.of(
        function,
        "model",
        "return the same shape in every pass",
        f"shapes {sorted(map(tuple, shapes))[:3]}",
        "Pick a part of fixed shape with select=, or pad the output",
    )


def rows_change(
    function: str, first: Sequence[int], other: Sequence[int], number: int
) -> McdropError:
    """Make the error for an output whose rows have another shape in another batch."""
    return ShapeError.of(
        function,
        "model",
        "return rows of one shape for all batches",
        f"{tuple(first)} for batch 0 and {tuple(other)} for batch {number}",
        "Pad the inputs to one length, or predict batch by batch",
    )
