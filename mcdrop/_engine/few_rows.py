"""A look at few rows in place of a whole batch: which rows, and what it says of all of them.

Whether passes can be batched does not depend on how many rows there are, and sizes are proportional
to them. A first prediction of few passes would otherwise spend a third of its time on the look.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from torch import Tensor

from mcdrop._engine.batch import Batch
from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.row_probe import grown_rows
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.rows import RowDim, RowLayout
from mcdrop._twin.recall import Chosen, Recall

__all__ = ["ROWS_LOOKED_AT", "Plain", "few_rows", "for_all_rows"]

ROWS_LOOKED_AT = 2
"""A single row would hide what goes wrong between rows."""

# So many rows are run whole to compare with: a run costs about the same for few rows.
_MOST_RUN = 4


def few_rows(batch: Batch) -> Batch:
    """Return the first and the last row; the batch if there are no more or rows are not known."""
    if batch.n_rows is None or batch.n_rows <= ROWS_LOOKED_AT:
        return batch
    return batch.take([0, batch.n_rows - 1])


class Plain:
    """What the model returns as it is, for the rows that are looked at.

    A run of other rows serves as well, if it returned for these what vectorized passes return; by
    the shapes of its sites it tells which dimensions count rows.

    Args:
        passes: Runs the model.
        part: The rows that are looked at.
        whole: The rows that they are taken from.

    Attributes:
        output: What it returns for the rows that are looked at.
        is_own: Whether it ran on the rows that are looked at, and on these alone.
        chosen: Which of the rows of the first run these are.
    """

    output: Tensor
    chosen: Chosen

    def __init__(self, passes: Passes, part: Batch, whole: Batch) -> None:
        self._passes = passes
        self._part = part
        self.is_own = False
        self._sites: Sequence[DropoutSite] = ()
        self._n_rows: int | None = None
        # Other rows may be refused by the model in whatever way it likes.
        with suppress(Exception):
            if self._took_over(part, whole) or self._ran_more(part, whole):
                return
        self.is_own, self._ran_whole = True, part is whole
        # All rows of the run are as one here.
        self.chosen = Chosen(1, slice(None))
        self.output = passes.plain_kept(part)

    def run(self) -> None:
        """Run the model on the rows that are looked at."""
        self.is_own = True
        self.output = self._passes.plain(self._part)

    def let_go(self) -> None:
        """Hold nothing any longer that no pass over all rows computes."""
        if not self._ran_whole:
            self._passes.recall = None

    def rows_of(self, plan: Plan) -> RowLayout | None:
        """Return the row dimensions of a plan's sites, where a run of other rows shows them all."""
        if self._part.n_rows is None or self._n_rows is None:
            return None
        return grown_rows(plan.sites, self._part.n_rows, self._sites, self._n_rows)

    def _took_over(self, part: Batch, whole: Batch) -> bool:
        """Take what the run in eval mode returned that was watched."""
        copy = self._passes.copy
        output, copy.plain = copy.plain, None
        recall, copy.recall = copy.recall, Recall()
        found = copy.found
        if found is not None and found.sites:
            self._n_rows, self._sites = found.n_rows, found.sites
        if output is None or found is None or found.n_rows != whole.n_rows:
            return False
        self.output, self._ran_whole = self._passes.picked(output), True
        self._passes.keep(recall)
        if part is whole:
            self.chosen = Chosen(1, slice(None))
            return True
        return self._chose(whole, slice(0, None, (whole.n_rows or 0) - 1))

    def _ran_more(self, part: Batch, whole: Batch) -> bool:
        """Run these rows with another one, where that shows sites that are not known yet."""
        is_refused = part is whole and (whole.n_rows or 0) > ROWS_LOOKED_AT
        is_known = self._n_rows is not None or self._passes.copy.twin.hides_sites
        if part.n_rows is None or is_refused or is_known:
            return False
        n_rows = whole.n_rows or 0
        is_whole = part is not whole and n_rows <= _MOST_RUN
        more = whole if is_whole else part.take([*range(part.n_rows), 0])
        self._ran_whole = is_whole
        self.output = self._passes.plain_kept(more)
        self._n_rows, self._sites = more.n_rows, self._passes.seen.sites
        return self._chose(more, slice(0, None, n_rows - 1) if is_whole else slice(part.n_rows))

    def _chose(self, batch: Batch, rows: slice) -> bool:
        """Leave the rows that are looked at; return whether that is possible."""
        n_rows = len(self.output) if self.output.ndim else None
        if n_rows is None or n_rows != batch.n_rows:
            return False
        self.output, self.chosen = self.output[rows], Chosen(n_rows, rows)
        return True


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
