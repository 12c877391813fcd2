"""Finds the dimensions that count rows, by running the model on few rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import torch
from torch import Tensor

from mcdrop._engine.batch import Batch
from mcdrop._engine.plan import Plan
from mcdrop._live.call import Seen
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.rows import RowDim, RowLayout
from mcdrop.errors import McdropError, UnsupportedError

__all__ = ["grown_rows", "known_rows", "row_layout"]


Observe: TypeAlias = Callable[[Plan, Batch, bool], Seen]


def row_layout(function: str, observe: Observe, draft: Plan, batch: Batch) -> RowLayout:
    """Find the row dimensions of every site.

    Args:
        function: Public function to name in errors.
        observe: ``observe(plan, batch, opened)`` runs one pass and returns what was seen.
        draft: The plan so far.
        batch: The first batch.

    Returns:
        The layout: the dimensions whose size is proportional to the number of rows.

    Raises:
        UnsupportedError: If rows cannot be told, or are merged in a way that is not understood.
    """
    if batch.n_rows is None:
        raise _untold(function, batch.why_no_rows())
    last = batch.n_rows - 1
    two = _observed(function, observe, draft, batch.take([0, last]))
    three = _observed(function, observe, draft, batch.take([0, last, 0]))
    names = [[site.name for site in each.sites] for each in (two, three)]
    if names[0] != names[1] or len(two.random_shapes) != len(three.random_shapes):
        raise _untold(function, "a model whose dropout calls depend on the number of rows")
    swapped: list[tuple[Tensor, Tensor]] | None = None
    sites = []
    for order, (a, b) in enumerate(zip(two.sites, three.sites, strict=True)):
        rows = _growing(function, a.name, a.shape, b.shape)
        if any(row.per_row > 1 for row in rows):
            if swapped is None:
                swapped = _swapped(observe, draft, batch)
            rows = [_order(function, a.name, row, *swapped[order]) for row in rows]
        sites.append(tuple(rows))
    random_calls = []
    for shape_a, shape_b in zip(two.random_shapes, three.random_shapes, strict=True):
        rows = _growing(function, "a random tensor", shape_a, shape_b)
        if any(row.per_row > 1 for row in rows):
            raise _untold(function, f"random numbers of shape {shape_a} for two rows")
        random_calls.append(tuple(rows))
    return RowLayout(tuple(sites), tuple(random_calls), tuple(names[0]))


def _observed(function: str, observe: Observe, draft: Plan, few: Batch) -> Seen:
    """Run few rows; a model of a whole graph, whose rows are one thing, fails on some of them."""
    try:
        return observe(draft, few, False)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, McdropError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _untold(function, f"a model that fails on {few.n_rows} of them ({reason})") from error


def known_rows(observe: Observe, draft: Plan, batch: Batch) -> RowLayout | None:
    """Find the row dimensions of every site where rows can be told, by a run of two rows.

    Args:
        observe: As in `row_layout`.
        draft: The plan so far, with the sites of the whole batch.
        batch: The first batch.

    Returns:
        The layout, with no dimension for a site whose rows are not understood; None if that is all.
    """
    if batch.n_rows is None or not draft.sites:
        return None
    rows: Sequence[RowDim | None] = ()
    # A model may refuse two of its rows in whatever way it likes; it can still predict them all.
    with suppress(Exception):
        rows = _rows_of_sites(observe, draft, batch, batch.n_rows)
    sites = tuple(() if row is None else (row,) for row in rows)
    return RowLayout(sites, ()) if any(sites) else None


def grown_rows(
    sites: Sequence[DropoutSite], n_rows: int, others: Sequence[DropoutSite], n_others: int
) -> RowLayout | None:
    """Find the row dimensions of every site from two runs of different numbers of rows.

    Args:
        sites: The sites of one run.
        n_rows: Its rows.
        others: The sites of the other run.
        n_others: Its rows.

    Returns:
        The layout; None unless every site has one dimension of rows alone.
    """
    if n_rows == n_others or [site.name for site in sites] != [site.name for site in others]:
        return None
    pairs = zip(sites, others, strict=True)
    rows = [_only_row(a.shape, b.shape, n_rows, n_others) for a, b in pairs]
    known = [(row,) for row in rows if row is not None and row.per_row == 1]
    if not known or len(known) < len(rows):
        return None
    return RowLayout(tuple(known), (), tuple(site.name for site in sites))


def _rows_of_sites(
    observe: Observe, draft: Plan, batch: Batch, n_rows: int
) -> Sequence[RowDim | None]:
    """Return the dimension of every site that counts rows, or None."""
    rows: list[RowDim | None] = []
    # One row is the cheapest, but some models drop a dimension of size 1.
    for few in ([0], [0, 1, 0]) if n_rows == 2 else ([0, n_rows - 1],):
        with suppress(Exception):
            rows = _by_growth(observe, draft, batch, few)
        if rows and None not in rows:
            break
    if all(row is None or row.per_row == 1 for row in rows):
        return rows
    # Noise may spoil integers and masks of attention; it is added where the rows do not differ.
    ordered: list[RowDim | None] = []
    for disturbs in (False, True):
        swapped = _swapped(observe, draft, batch, disturbs=disturbs)
        ordered = [
            row if row is None or row.per_row == 1 else _order_or_none(row, *pair)
            for row, pair in zip(rows, swapped, strict=True)
        ]
        if ordered.count(None) == rows.count(None):
            break
    return ordered


def _by_growth(observe: Observe, draft: Plan, batch: Batch, few: list[int]) -> list[RowDim | None]:
    """Return the dimension of every site that grows with the rows, by a run of few of them."""
    seen = observe(draft, batch.take(few), True)
    if [site.name for site in seen.sites] != [site.name for site in draft.sites]:
        return []
    pairs = zip(draft.sites, seen.sites, strict=True)
    return [_only_row(a.shape, b.shape, batch.n_rows or 1, len(few)) for a, b in pairs]


def _only_row(
    whole: Sequence[int], part: Sequence[int], n_whole: int, n_part: int
) -> RowDim | None:
    """Return the dimension that is proportional to the rows, if it is the only one that grows."""
    if len(whole) != len(part):
        return None
    grown = [dim for dim, (a, b) in enumerate(zip(whole, part, strict=True)) if a != b]
    if len(grown) != 1:
        return None
    (dim,) = grown
    per_row, rest = divmod(whole[dim], n_whole)
    return RowDim(dim, per_row) if rest == 0 and part[dim] == per_row * n_part else None


def _swapped(
    observe: Observe, draft: Plan, batch: Batch, *, disturbs: bool = True
) -> list[tuple[Tensor, Tensor]]:
    """Return what every site is given for two rows and for the same rows in the other order.

    Args:
        observe: As in `row_layout`.
        draft: The plan so far.
        batch: The first batch.
        disturbs: Whether rows are disturbed, so that their entries differ wherever they can.
    """
    two = batch.take([0, (batch.n_rows or 1) - 1])
    two = two.disturbed() if disturbs else two
    straight, crossed = (observe(draft, two.take(rows), True) for rows in ([0, 1], [1, 0]))
    return list(zip(straight.dropped or (), crossed.dropped or (), strict=True))


def _growing(function: str, name: str, two: Sequence[int], three: Sequence[int]) -> list[RowDim]:
    """Return the dimensions that grow from two rows to three."""
    if len(two) != len(three):
        raise _untold(function, f"{name}, whose number of dimensions depends on that of rows")
    rows = []
    for dim, (a, b) in enumerate(zip(two, three, strict=True)):
        if a == b:
            continue
        if a * 3 != b * 2:
            raise _untold(function, f"{name}, where {two} for two rows becomes {three} for three")
        rows.append(RowDim(dim, a // 2))
    return rows


def _order(function: str, name: str, row: RowDim, straight: Tensor, crossed: Tensor) -> RowDim:
    """Tell by swapping two rows whether rows are the outer or inner part of a merged dimension."""
    if row.per_row == 1:
        return row
    found = _order_or_none(row, straight, crossed)
    if found is None:
        raise _untold(function, f"{name}, where rows are merged with another dimension")
    return found


def _order_or_none(row: RowDim, straight: Tensor, crossed: Tensor) -> RowDim | None:
    """Return a merged dimension with its order, or None if entries do not tell it."""
    fitting = []
    for rows_first in (True, False):
        sizes = (2, row.per_row) if rows_first else (row.per_row, 2)
        flipped = straight.unflatten(row.dim, sizes).flip(row.dim + (0 if rows_first else 1))
        if torch.allclose(flipped.flatten(row.dim, row.dim + 1), crossed, rtol=1e-4, atol=1e-5):
            fitting.append(RowDim(row.dim, row.per_row, rows_first))
    # Entries that are equal however the rows lie tell nothing.
    return fitting[0] if len(fitting) == 1 else None


def _untold(function: str, found: str) -> McdropError:
    return UnsupportedError.of(
        function,
        "masks",
        "be 'independent' where the rows cannot be told apart",
        f"'shared' with {found}",
        "Use masks='independent'",
    )
