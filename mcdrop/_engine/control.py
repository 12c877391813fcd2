"""Whether the linearized network is the control variate, and where rows lie in its masks."""

from __future__ import annotations

import math

import torch

from mcdrop._engine.batch import Batch
from mcdrop._engine.linearization import Linearization, linearized, row_dim
from mcdrop._engine.passes import CANNOT_BATCH, Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.row_probe import row_layout
from mcdrop._engine.settings import Settings
from mcdrop._live.multipliers import Multipliers
from mcdrop._masks.rows import RowDim
from mcdrop._masks.source import Span

__all__ = [
    "FEWEST_PASSES",
    "MOST_SCORES",
    "described",
    "linearize",
    "most_scores",
    "obstacle",
    "row_dims",
]

FEWEST_PASSES = 8
"""Fewer passes do not tell how they depend on their linear part."""

MOST_SCORES = 16
"""Scores of a row that are linearized; of more, the largest ones.

Of classes that exclude one another, few passes are worth fewer backward passes.
"""

# The fewest classes that are linearized: little of the probability is left to others.
_FEWEST_CLASSES = 5
# Passes for each class more, which takes a backward pass: as long as two passes, of every eight.
_PASSES_PER_CLASS = 8

# Scores of a row beyond which the surrogate's probabilities take longer than passes: pixels.
_MOST_PER_ROW = 2**12

# Numbers held for the slopes: 256 MiB of float32.
_MOST_SLOPES = 2**26


def row_dims(
    settings: Settings, passes: Passes, plan: Plan, batch: Batch
) -> tuple[RowDim | None, ...]:
    """Return the dimension of every site's mask that counts rows, None where it cannot be told.

    A wrong one would do no harm but make the control variate useless: its law is exact whatever
    the row that a unit is counted to.

    Args:
        settings: How passes run.
        passes: Runs the model.
        plan: The plan so far.
        batch: The first batch.
    """
    if plan.rows is not None:
        return tuple(_only(rows) for rows in plan.rows.sites)
    if not batch.n_rows:
        return ()
    found = tuple(row_dim(site.shape, batch.n_rows) for site in plan.sites)
    unknown = any(dim is None and site.fired for dim, site in zip(found, plan.sites, strict=True))
    if not unknown:
        return found
    try:
        layout = row_layout(settings.function, passes.observed, plan, batch)
    except CANNOT_BATCH:
        return found
    return tuple(_only(rows) for rows in layout.sites)


def linearize(
    settings: Settings, passes: Passes, plan: Plan, batch: Batch, span: Span
) -> Linearization:
    """Run one pass with every unit kept and differentiate it.

    Gradients are asked for with respect to multipliers alone: no parameter receives one.

    Args:
        settings: How passes run.
        passes: Runs the model.
        plan: The plan.
        batch: The rows.
        span: A pass over them, with their numbers: the masks of a row depend on its number.

    Raises:
        NoSlopesError: If the output has no gradient with respect to what dropout keeps.
    """
    multipliers = Multipliers()
    # Tensors made under inference mode could not be differentiated.
    with torch.inference_mode(False), torch.enable_grad():
        whole = passes.one(plan, batch, span, opened=True, multipliers=multipliers)
        output = settings.selection.pick(settings.function, whole)
        output = output[..., 0] if settings.selection.is_pair else output
        output = output if settings.scores is None else settings.scores(output.unsqueeze(0))[0]
        sites = [each for each in multipliers.sites if each.mask.site not in plan.integrated]
        return linearized(
            output,
            sites,
            plan.row_dim,
            most_outputs=most_scores(settings, output.ndim),
            exclusive=_exclude(settings, output.ndim),
            per_pass={} if plan.last_site is None else {plan.last_site: max(1, plan.redraws)},
        )


def most_scores(settings: Settings, n_dims: int) -> int | None:
    """Return the most outputs of a row that are linearized; None for all.

    Args:
        settings: Settings of the prediction.
        n_dims: Dimensions of the output.
    """
    if settings.scores is None:
        return None
    if settings.n_samples is None or not _exclude(settings, n_dims):
        return MOST_SCORES
    return min(MOST_SCORES, max(_FEWEST_CLASSES, settings.n_samples // _PASSES_PER_CLASS))


def obstacle(plan: Plan, n_passes: int, *, most_outputs: int | None = None) -> str:
    """Return why the linearized network is no control variate; empty if it can be.

    Args:
        plan: The plan.
        n_passes: Passes in all.
        most_outputs: The most outputs of a row that are linearized, if that is limited.
    """
    sites = [site for site in plan.sites if site.fired and site.order not in plan.integrated]
    known = [site for site in sites if plan.row_dim(site.order) is not None]
    if not sites:
        return "nothing is left to it"
    if not known:
        return "the rows of what is dropped out cannot be told apart"
    if n_passes < FEWEST_PASSES:
        return f"{n_passes} passes are too few"
    units = sum(math.prod(site.shape) for site in sites)
    n_rows = max(1, _n_rows(plan, known[0].order))
    outputs = math.ceil(plan.output_numel / n_rows)
    if most_outputs is not None and outputs > _MOST_PER_ROW:
        return f"{outputs:,} scores per row are too many"
    outputs = min(outputs, most_outputs or outputs)
    slopes = outputs * units
    if slopes > _MOST_SLOPES:
        fitting = _MOST_SLOPES * n_rows // slopes
        remedy = f"; with batch_size={fitting} they would" if fitting else ""
        return f"{slopes:,} slopes do not fit in the memory set aside for them{remedy}"
    return ""


def described(plan: Plan, *, asked: bool) -> str:
    """Say what is computed exactly, and why not more if that was asked for."""
    parts = []
    if plan.last_site is not None:
        how = f"drawn {plan.redraws} times a pass" if plan.redraws else "in closed form"
        parts.append(f"last dropout ({plan.sites[plan.last_site].name}) {how}")
    if plan.linear:
        parts.append("linearized network as control variate")
    elif asked:
        parts.append(f"no linearized network: {plan.control}")
    return ", ".join(parts)


def _exclude(settings: Settings, n_dims: int) -> bool:
    """Tell whether an output of so many dimensions has one class of several for every row."""
    return settings.exclusive and n_dims == 2


def _n_rows(plan: Plan, site: int) -> int:
    """Return the number of rows, from a site whose rows are known."""
    rows = plan.row_dim(site)
    return 1 if rows is None else plan.sites[site].shape[rows.dim] // rows.per_row


def _only(rows: tuple[RowDim, ...]) -> RowDim | None:
    """Return the dimension of rows if there is one."""
    return rows[0] if len(rows) == 1 else None
