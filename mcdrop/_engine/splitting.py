"""Sizes of one call: how many passes, and how many rows where a single pass is too large.

And of one pass: how often its last mask may be drawn.
"""

from __future__ import annotations

import math

import torch

from mcdrop._engine.agreement import agree
from mcdrop._engine.batch import Batch
from mcdrop._engine.passes import CANNOT_BATCH, Passes
from mcdrop._engine.plan import Plan
from mcdrop._masks.stratified import STRATUM

__all__ = ["passes_that_fit", "redraws", "rows_that_fit", "treats_rows_alone"]

# Elements of the widest tensor that one chunk of passes may hold: 8 MiB of float32 on a CPU.
_CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**26}
# Tensors of that size that a pass may hold at a time, of four bytes an element.
_BYTES_AT_A_TIME = 16 * 4

# How much larger a chunk may be to save work before the first dropout.
_PREFIX_FACTOR = 16

# Elements of the largest tensor of a chunk, whatever a model computes between dropouts: 31 MiB of
# float32 on a CPU, since memory of larger ones is asked for anew each time (`keep_freed_pages`).
_LARGEST_ELEMENTS = {"cpu": 31 * 2**18, "cuda": 2**30}

# How much larger where dropout is deferred, which takes no memory; a chunk is also the step of the
# progress bar.
_DEFERRED_FACTOR = 16

# What redrawing a mask may add to a pass.
_REDRAW_SHARE = 0.1

# What a pass costs besides, in floating point operations: a matrix product does 190 in the
# nanosecond; a unit takes 3 ns to draw and to drop, a probability 60 ns to enter the moments.
_PER_UNIT = 600
_PER_VALUE = 12_000

# Inputs of fewer elements are not split: the memory saved is negligible.
_LEAST_INPUT = 2**16
_PROBE_ROWS = 16
# Where rows are split, calls of a quarter of the size are still efficient.
_SPLIT = 4
# Passes that a call over split rows should still hold, so that there are not many small calls.
_PASSES = 8


def passes_that_fit(plan: Plan, device: torch.device, *, rows_split: bool = False) -> int:
    """Return the passes per vectorized call.

    They fill the cache. Where much work comes before the first dropout they take more memory: each
    call repeats that work, and it should stay below a tenth of the call. Where a model computes
    tensors much larger than those that it drops units of, they are fewer.
    """
    outputs = plan.output_numel * (1 + plan.redraws)
    units = [math.prod(site.shape) for site in plan.sites]
    widest = max([1, outputs, *units])
    budget = _budget(device) // (_SPLIT if rows_split else 1)
    chunk = max(1, budget // widest)
    if plan.defers:
        # Deferred layers run in tiles of their own; only results that are read take memory.
        chunk = max(chunk, min(budget // max(1, plan.widest), _DEFERRED_FACTOR * chunk))
    each = plan.work_per_pass + sum(units) * _PER_UNIT + outputs * _PER_VALUE
    wanted = 10 * plan.work_before // max(1, each)
    chunk = max(chunk, min(wanted, _PREFIX_FACTOR * budget // widest))
    largest = _LARGEST_ELEMENTS.get(device.type, _PREFIX_FACTOR * budget)
    chunk = max(1, min(chunk, largest // plan.largest))
    # Masks are drawn in blocks of up to 64 passes, a power of two.
    return int(chunk - chunk % 64 if chunk > 64 else 2 ** (chunk.bit_length() - 1))


def redraws(plan: Plan, n_passes: int, *, asked: bool) -> int:
    """Return how many masks of the last dropout a pass is given; 0 for none but its own.

    More of them never make a mean over passes less precise, so time alone decides: what they add
    stays below a tenth of the rest, unless precision is asked for. Powers of two up to a stratum,
    so that a stratum of masks lies in whole passes.

    Args:
        plan: The plan so far.
        n_passes: Passes in all, which share the work before the first dropout.
        asked: Whether precision is asked for.
    """
    if asked:
        return STRATUM
    fired = [site for site in plan.sites if site.fired]
    units, values = math.prod(fired[-1].shape), plan.output_numel
    n_rows = max(1, fired[-1].shape[0] if fired[-1].shape else 1)
    each = units * (_PER_UNIT + 2 * values // n_rows) + values * _PER_VALUE
    pass_work = plan.work_per_pass + plan.work_before // max(1, n_passes)
    masks = sum(math.prod(site.shape) for site in fired) * _PER_UNIT
    count = 1 + int(_REDRAW_SHARE * (pass_work + masks) // max(1, each))
    return 0 if count < 2 else min(STRATUM, int(2 ** (count.bit_length() - 1)))


def _budget(device: torch.device) -> int:
    """Return the elements of the widest tensor of a chunk, fewer where memory is short."""
    most = _CHUNK_ELEMENTS.get(device.type, 2**20)
    if device.type != "cuda":
        return most
    free, _ = torch.cuda.mem_get_info(device)
    return max(2**16, min(most, free // _BYTES_AT_A_TIME))


def rows_that_fit(passes: Passes, batch: Batch) -> int | None:
    """Return the rows per call that keep memory bounded; None to pass the batch on whole.

    They may be split only if the model treats them separately, see `treats_rows_alone`.

    Args:
        passes: Runs the model.
        batch: The inputs, on the device.
    """
    tensors = batch.tensors()
    n_rows = batch.n_rows
    if n_rows is None or n_rows <= _PROBE_ROWS or sum(x.numel() for x in tensors) < _LEAST_INPUT:
        return None
    few = batch.rows(0, _PROBE_ROWS)
    try:
        output = passes.plain(few)
        passes.one(Plan(), few, opened=True)
    except CANNOT_BATCH:
        return None
    sizes = [output.numel(), *(math.prod(site.shape) for site in passes.seen.sites)]
    per_row = max(sizes) / _PROBE_ROWS
    budget = _budget(tensors[0].device)
    if per_row * n_rows <= budget:
        return None
    return max(1, int(budget / _SPLIT / (_PASSES * per_row)))


def treats_rows_alone(passes: Passes, batch: Batch) -> bool:
    """Tell whether the output of some rows stays the same when the others are left out.

    Rows are chosen to differ as much as those of the batch do: a model that divides by the largest
    entry, or trims to the longest sequence, shows itself where the extreme rows are left out.

    Args:
        passes: Runs the model.
        batch: The inputs, on the device.
    """
    if batch.n_rows is None or batch.n_rows < 2:
        return False
    first, second = _halves(batch)
    both = [*first, *second]
    try:
        together = passes.plain(batch.take(both))
        apart = [passes.plain(batch.take(rows)) for rows in (first, second)]
    except CANNOT_BATCH:
        return False
    if together.shape[:1] != (len(both),) or len(apart[0]) + len(apart[1]) != len(both):
        return False
    return agree(torch.cat(apart), together, 1e-3)


def _halves(batch: Batch) -> tuple[list[int], list[int]]:
    """Choose two sets of rows: the extreme ones of every input, and others in between."""
    n_rows = batch.n_rows or 0
    half = min(n_rows, _PROBE_ROWS) // 2
    extreme: list[int] = []
    for x in batch.tensors():
        flat = x.detach().reshape(n_rows, -1).to(torch.float64).nan_to_num()
        for score in (flat.amax(dim=1), flat.sum(dim=1), flat.abs().amax(dim=1)):
            extreme += [int(score.argmax()), int(score.argmin())]
    first = list(dict.fromkeys(extreme))[:half]
    chosen = set(first)
    others = [row for row in range(0, n_rows, max(1, n_rows // _PROBE_ROWS)) if row not in chosen]
    others += [row for row in range(n_rows) if row not in chosen and row not in others][:half]
    return first, others[:half]
