"""A look at few rows in place of a whole batch: which rows, and what it says of all of them.

Whether passes can be batched does not depend on how many rows there are, and sizes are proportional
to them. A first prediction of few passes would otherwise spend a third of its time on the look.
"""

from __future__ import annotations

from dataclasses import replace

from mcdrop._engine.batch import Batch
from mcdrop._engine.plan import Plan
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.rows import RowDim

__all__ = ["ROWS_LOOKED_AT", "few_rows", "for_all_rows"]

ROWS_LOOKED_AT = 2
"""A single row would hide what goes wrong between rows."""


def few_rows(batch: Batch) -> Batch:
    """Return the first and the last row; the batch if there are no more or rows are not known."""
    if batch.n_rows is None or batch.n_rows <= ROWS_LOOKED_AT:
        return batch
    return batch.take([0, batch.n_rows - 1])


def for_all_rows(plan: Plan, n_few: int, n_rows: int) -> Plan | None:
    """Return a plan for all rows, given one for few; None where it says nothing about them.

    Args:
        plan: The plan for few rows, with the row dimensions of its sites.
        n_few: Few rows.
        n_rows: All rows.
    """
    if plan.strategy != "vectorized" or plan.rows is None or plan.output_numel % n_few:
        return None
    if len(plan.rows.sites) != len(plan.sites):
        return None
    pairs = zip(plan.sites, plan.rows.sites, strict=True)
    sites = [_grown(site, rows, n_few, n_rows) for site, rows in pairs]
    grown = [site for site in sites if site is not None]
    if len(grown) < len(sites):
        return None
    return replace(
        plan,
        sites=tuple(grown),
        output_numel=plan.output_numel * n_rows // n_few,
        widest=plan.widest * n_rows // n_few,
        largest=plan.largest * n_rows // n_few,
        work_before=plan.work_before * n_rows // n_few,
        work_per_pass=plan.work_per_pass * n_rows // n_few,
    )


def _grown(
    site: DropoutSite, rows: tuple[RowDim, ...], n_few: int, n_rows: int
) -> DropoutSite | None:
    """Return a site as it is for all rows; None where its rows are not known."""
    shape = list(site.shape)
    for row in rows:
        if shape[row.dim] != row.per_row * n_few:
            return None
        shape[row.dim] = row.per_row * n_rows
    return replace(site, shape=tuple(shape)) if rows else None
