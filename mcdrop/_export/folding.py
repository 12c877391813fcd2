"""Passes folded into rows: a program that runs S passes as one call of S times as many rows.

All rows share the mask of a pass, so that masks are constants and the program draws nothing. Rows
are repeated where the first dropout needs them to be, or at the input; pass s of row n becomes row
``s * N + n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mcdrop._live.call import Call, TorchFunction
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules.recurrent import rate_between_layers, recurrent_rules
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.rows import RowDim, shared_shape
from mcdrop._masks.source import Span
from mcdrop._trees import mapped, tensors

__all__ = ["CannotFoldError", "FoldedCall", "Folding"]


class CannotFoldError(RuntimeError):
    """Passes of this model cannot be folded into its rows."""


@dataclass(frozen=True)
class FoldedCall(Call):
    """A forward call whose rows are those of all passes.

    Attributes:
        constants: The mask of every site, (S, *shape for one row), drawn when first needed.
        n_passes: S.
    """

    constants: dict[int, Tensor] = field(default_factory=dict)
    n_passes: int = 1

    def mask(self, site: DropoutSite, shape: tuple[int, ...]) -> DropoutMask:
        """Return the mask of all passes, which is a constant."""
        rows = () if self.rows is None else self.rows.sites[site.order]
        if len(rows) != 1:
            found = "no rows" if not rows else "two dimensions of rows"
            raise CannotFoldError(f"{site.name} drops units of a tensor with {found}")
        if site.order not in self.constants:
            one_row = shared_shape(shape, rows)
            one_row = tuple(
                rows[0].per_row if dim == rows[0].dim else size for dim, size in enumerate(one_row)
            )
            span = Span(0, 0, self.n_passes)
            drawn = self.source.keep(site.p, one_row, site.order, span)
            self.constants[site.order] = drawn.clone()
        return _FoldedMask(
            self.source,
            site.p,
            shape,
            site.order,
            self.span,
            stacked=False,
            rows=rows,
            constant=self.constants[site.order],
        )


@dataclass(frozen=True)
class _FoldedMask(DropoutMask):
    """The mask of all passes for rows ``s * N + n``.

    Attributes:
        constant: Booleans, (S, *shape for one row).
    """

    constant: Tensor = field(default_factory=lambda: torch.empty(0))

    def keep(self) -> Tensor:
        """Return booleans that broadcast with the values, True where a value is kept."""
        (row,) = self.rows or ()
        n_passes = self.constant.shape[0]
        n_rows = self.shape[row.dim] // (n_passes * row.per_row)
        return _for_rows(self.constant, row, n_rows)

    def times(self, x: Tensor, scale: float) -> Tensor:
        """Return ``x * keep * scale``."""
        return torch.where(self.keep(), x * scale, 0.0)


def _for_rows(constant: Tensor, row: RowDim, n_rows: int) -> Tensor:
    """Repeat the mask of one row, (S, ...), for all rows in the dimension that counts them."""
    at = row.dim if row.rows_first else row.dim + 1
    by_pass = constant.movedim(0, at).unsqueeze(at + 1)
    sizes = list(by_pass.shape)
    sizes[at + 1] = n_rows
    return by_pass.expand(sizes).flatten(row.dim, row.dim + 2)


class Folding(TorchFunctionMode):
    """Runs a model whose rows become those of all passes at its first dropout.

    Args:
        call: The forward call.
        inputs: Tensors whose first dimension counts rows.
        n_rows: How many.
        at_input: Whether rows are repeated before anything else runs.
    """

    def __init__(
        self, call: FoldedCall, inputs: Sequence[Tensor], n_rows: int, *, at_input: bool
    ) -> None:
        super().__init__()
        self._live = LiveDropout(call)
        self._call = call
        self._n_rows = n_rows
        self._at_input = at_input
        # By identity; the tensors are held, so that no identity is used again.
        self._rows = {id(x): x for x in inputs}
        self._folded: dict[int, Tensor] = {}

    def fold(self, x: Tensor) -> Tensor:
        """Return a tensor with its rows repeated for every pass."""
        if id(x) not in self._rows or id(x) in self._folded:
            return x
        if x.ndim and x.shape[0] == self._call.n_passes * self._n_rows:
            self._mark(x)
            return x
        if x.ndim == 0 or x.shape[0] != self._n_rows:
            raise CannotFoldError(f"a tensor of shape {tuple(x.shape)} meets dropped-out rows")
        folded = x.repeat(self._call.n_passes, *(1 for _ in x.shape[1:]))
        self._mark(folded)
        return folded

    def __torch_function__(
        self,
        func: TorchFunction,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function on folded rows where one of its arguments is folded or dropped out."""
        kwargs = kwargs or {}
        if func in recurrent_rules():
            args = self._with_states(args)
        if self._at_input:
            return self._live.__torch_function__(func, types, args, kwargs)
        given = list(tensors((args, kwargs)))
        is_folded = any(id(x) in self._folded for x in given)
        if is_folded or _drops(func, self._call, args, kwargs):
            args, kwargs = mapped((args, kwargs), self.fold)
            is_folded = is_folded or any(id(x) in self._rows for x in given)
        result = self._live.__torch_function__(func, types, args, kwargs)
        if is_folded or any(id(x) in self._rows for x in given):
            for x in tensors(result):
                self._mark(x) if is_folded else self._rows.update({id(x): x})
        return result

    def _with_states(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Give a recurrent call initial states for as many rows as it is to have.

        torch does not check them, and reads beyond their memory.
        """
        if isinstance(args[3], tuple | list):
            raise CannotFoldError("packed sequences")
        x, hx, *rest = args
        batch_first, n_passes = bool(rest[-1]), self._call.n_passes
        if rate_between_layers(args, {}) > 0 and not self._at_input:
            if not batch_first:
                raise CannotFoldError("a recurrent layer with time first")
            x = self.fold(x)
        n_rows = x.shape[0 if batch_first else 1]
        states = hx if isinstance(hx, tuple | list) else (hx,)
        states = [h if h.shape[1] == n_rows else h.repeat(1, n_passes, 1) for h in states]
        if any(h.shape[1] != n_rows for h in states):
            raise CannotFoldError(
                f"initial states of a recurrent layer for other than {n_rows} rows"
            )
        return (x, tuple(states) if isinstance(hx, tuple | list) else states[0], *rest)

    def _mark(self, x: Tensor) -> None:
        self._rows[id(x)] = self._folded[id(x)] = x


def _drops(func: TorchFunction, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function drops units, so that its inputs have to be folded."""
    if func is F.scaled_dot_product_attention:
        return bool(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
    if func in recurrent_rules():
        return rate_between_layers(args, kwargs) > 0
    if func is F.multi_head_attention_forward:
        return True
    return func in call.rules and "dropout" in getattr(func, "__name__", "")
