"""Results of costly operators, handed out again where the same is computed from the same.

A look at a model runs it several times on the same rows, and most of the time of each run goes into
matrix products and convolutions of the same numbers. These are functions of their arguments alone:
given equal numbers, and weights that nothing has written to, they return what they returned. All
other operators run.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcdrop._live.functorch import aten, writes
from mcdrop._live.memory import address
from mcdrop._live.operators import OperatorMode

__all__ = ["Chosen", "Recall", "Recalling"]

_PURE = (
    "mm", "addmm", "bmm", "baddbmm", "linear", "convolution", "max_pool2d_with_indices",
)  # fmt: skip
# The argument whose rows are those of the result, each computed from its own.
_ROWS_OF = {"mm": 0, "addmm": 1, "convolution": 0}
# Of fewer numbers, a result takes longer to find than to compute.
_FEWEST = 2**12
# Inputs and results that are held, all together: 256 MiB.
_MOST_BYTES = 2**28


Results = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class _Computed:
    """One call of an operator: copies of the numbers it was given, and of its results."""

    given: list[Tensor]
    results: Results

    def is_of(self, given: Sequence[Tensor]) -> bool:
        """Tell whether other numbers are the same."""
        return all(map(torch.equal, given, self.given))


@dataclass(frozen=True)
class Chosen:
    """Some of the rows of the runs so far.

    Attributes:
        n_rows: How many rows these had.
        rows: The rows chosen.
    """

    n_rows: int
    rows: slice

    def of(self, x: Tensor) -> Tensor:
        """Return the chosen rows of a tensor, where dimension 0 may count others within a row."""
        return x.unflatten(0, (self.n_rows, -1))[self.rows].flatten(0, 1)


class Recall:
    """Holds what costly operators returned.

    Attributes:
        holds: Whether to go on remembering.
        chosen: Rows to look for besides all of them, once or once per pass; their results are those
            of a run of these rows but for rounding. None for no others.
    """

    def __init__(self) -> None:
        self.holds = True
        self.chosen: Chosen | None = None
        self._operators = {each: name for name in _PURE for each in aten(name)[:1]}
        self._computed: dict[Hashable, list[_Computed]] = {}
        self._by_row: dict[Hashable, list[_Computed]] = {}
        self._n_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to recall."""
        return self._n_bytes == 0

    def run(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        unwritten: frozenset[int],
    ) -> Any:
        """Run an operator, unless it has run on the same numbers before.

        Args:
            func: The operator.
            args: Its arguments by position.
            kwargs: Its arguments by name.
            unwritten: Storage addresses of tensors that a run may not write to, such as weights:
                they are compared by where they lie.
        """
        name = self._operators.get(func)
        tensors = [x for x in args if isinstance(x, Tensor)]
        is_costly = name is not None and sum(x.numel() for x in tensors) >= _FEWEST
        if not is_costly or kwargs or not all(map(_is_plain, tensors)):
            return func(*args, **kwargs)
        key = (func, *(_described(x, unwritten) for x in args))
        given = [x for x in tensors if address(x) not in unwritten]
        for each in self._computed.get(key, ()):
            if each.is_of(given):
                return _cloned(each.results)
        by_row = self._key_by_row(name, func, args, given, unwritten)
        if by_row is not None and self.chosen is not None:
            for each in self._by_row.get(by_row, ()):
                found = self._found_by_row(each, given[0], self.chosen)
                if found is not None:
                    return found
        results: Results = func(*args)
        self._hold(key, by_row, given, results)
        return results

    def _hold(
        self, key: Hashable, by_row: Hashable, given: Sequence[Tensor], results: Results
    ) -> None:
        """Remember results, if there is room for them."""
        held = [*given, *(results if isinstance(results, tuple) else (results,))]
        n_bytes = sum(x.numel() * x.element_size() for x in held)
        if not self.holds or self._n_bytes + n_bytes > _MOST_BYTES:
            return
        self._n_bytes += n_bytes
        # Whoever has the originals may write to them, also where torch does not count it.
        computed = _Computed([x.clone() for x in given], _cloned(results))
        self._computed.setdefault(key, []).append(computed)
        if by_row is not None:
            self._by_row.setdefault(by_row, []).append(computed)

    def _key_by_row(
        self,
        name: str | None,
        func: Any,
        args: tuple[Any, ...],
        given: Sequence[Tensor],
        unwritten: frozenset[int],
    ) -> Hashable:
        """Return what calls on different rows have in common; None if rows are not alone."""
        place = _ROWS_OF.get(name or "")
        if place is None or len(given) != 1 or args[place] is not given[0] or not args[place].ndim:
            return None
        if name == "addmm" and args[0].ndim != 1:
            return None
        others = (_described(x, unwritten) for i, x in enumerate(args) if i != place)
        return (func, given[0].shape[1:], given[0].dtype, given[0].device, *others)

    def _found_by_row(self, each: _Computed, x: Tensor, chosen: Chosen) -> Tensor | None:
        """Return the result for some of the rows of a call, or None."""
        given, result = each.given[0], each.results
        if len(given) % chosen.n_rows or not isinstance(result, Tensor):
            return None
        given = chosen.of(given)
        n_passes, rest = divmod(len(x), len(given))
        if rest or not torch.equal(
            x.unflatten(0, (n_passes, -1)), given.expand(n_passes, *given.shape)
        ):
            return None
        result = chosen.of(result)
        return result.expand(n_passes, *result.shape).flatten(0, 1).clone()


class Recalling(OperatorMode):
    """Recalls what costly operators returned, and runs all others.

    Args:
        recall: What they returned.
        unwritten: As for `Recall.run`.
    """

    def __init__(self, recall: Recall, unwritten: frozenset[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recall = recall
        self._unwritten = unwritten

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator, or recall what it returned."""
        return self._recall.run(func, args, kwargs or {}, self._unwritten)


def _cloned(results: Results) -> Results:
    return tuple(x.clone() for x in results) if isinstance(results, tuple) else results.clone()


def _is_plain(x: Tensor) -> bool:
    return type(x) in (Tensor, torch.nn.Parameter) and x.layout == torch.strided


def _described(x: Any, unwritten: frozenset[int]) -> Hashable:
    """Return what an argument has to have in common with another to be the same."""
    if not isinstance(x, Tensor):
        return tuple(x) if isinstance(x, list) else x
    kind = (x.shape, x.stride(), x.dtype, x.device)
    place = address(x)
    if place not in unwritten:
        return kind
    n_writes = 0 if x.is_inference() else writes(x)
    return (*kind, place, x.storage_offset(), n_writes)
