"""Moments in the type of the values, float32 as a rule, for outputs too large to widen each pass.

Deviations from the mean of the first chunk keep as many digits as the values themselves. Sums over
one chunk, of a few dozen passes, have their type as well; sums over chunks are float64.
"""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.groups import Membership, PassGroups
from mcdrop._engine.jackknife import Sizes, changes_without_each
from mcdrop._engine.lines import LineSums
from mcdrop._engine.moments import Moments

__all__ = ["Deviations"]


class Deviations(Moments):
    """The moments of passes that come with few digits, or in large numbers.

    Passes on a grid are to come as one chunk.

    Args:
        groups: Groups of passes for the jackknife; by default single passes.
        spread: Whether `variance` and what depends on it are asked for, beside the mean and the
            changes without each group.
    """

    def __init__(self, groups: PassGroups | None = None, *, spread: bool = True) -> None:
        super().__init__(groups)
        self._lines: LineSums | None = None
        self._needs_lines = spread and self._groups.on_grid

    def update(self, chunk: Tensor, beside: int = 0) -> None:
        """Add passes, which are overwritten; see `Moments.update`."""
        self._add(chunk.sub_(self._begun(chunk, beside)))

    def _squared(self, centered: Tensor) -> Tensor:
        if not self._needs_lines:
            return centered.square_()
        square = centered.square()
        self._lines = LineSums.of(centered, square)
        return square

    def _summed(self, member: Membership, values: Tensor, *, overwrites: bool = False) -> Tensor:
        sums = member.sums(values, overwrites=overwrites)
        return sums if self._groups.on_grid else sums.double()

    def part(self, *index: Tensor | slice) -> Self:
        """Return the moments of a part of the values; see `Moments.part`."""
        part = super().part(*index)
        part._lines = None if self._lines is None else self._lines.part(*index)
        return part

    def changes_without_each(self) -> tuple[Sizes, Tensor, Tensor]:
        """Return what each group changes when it is left out.

        Returns:
            Sizes of groups; by how much the means without each of them differ from the mean,
            (G, ...); the variances without each, divided by the count.
        """
        sizes, dtype = self._sizes(), self._base().dtype
        used = slice(0, len(sizes))
        sums, squares = (x[used].to(dtype) for x in (self._sums, self._squares))
        totals = self._total(self._sums).to(dtype), self._total(self._squares).to(dtype)
        return sizes, *changes_without_each(sums, squares, sizes, totals)

    def excess_powers(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return `LineSums.excess_powers` of passes on a grid.

        Args:
            scale: Factor of their deviations from the mean, (...).
        """
        return self._line_sums().excess_powers(scale, self._total(self._sums) / self.count)

    def _line_sums(self) -> LineSums:
        if self._lines is None:
            raise RuntimeError("Deviations: no passes on a grid have been added")
        return self._lines

    def _variance_on_lines(self) -> Tensor:
        if self._on_lines is None:
            self._on_lines = self._line_sums().variance()
        return self._on_lines
