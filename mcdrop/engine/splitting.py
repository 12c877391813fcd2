"""When inputs are too large for one call: how many rows at a time, if rows may be split at all."""

from __future__ import annotations

import math

import torch

from mcdrop.engine.inputs import Batch
from mcdrop.engine.passes import CANNOT_BATCH, PassRunner

__all__ = ["CHUNK_ELEMENTS", "rows_that_fit"]

# Elements of the widest tensor that one chunk of passes may hold: 4 MiB of float32 stays in cache.
CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}

# Below this many input elements, splitting cannot save memory worth mentioning.
_LEAST_INPUT = 2**16
_PROBE_ROWS = 16
# Passes that should still fit beside each other, so that calls are not many and small.
_PASSES = 8


def rows_that_fit(runner: PassRunner, batch: Batch) -> int | None:
    """Return the rows per call that keep memory bounded; None to pass the batch on whole.

    Rows are split only if the model treats each on its own, which is tested on a few: what it
    returns for the second half of them must not depend on the first half.

    Args:
        runner: Runs the model.
        batch: The inputs, on the device.
    """
    tensors = batch.tensors()
    n_rows = batch.n_rows
    if n_rows is None or n_rows <= _PROBE_ROWS or sum(x.numel() for x in tensors) < _LEAST_INPUT:
        return None
    half = _PROBE_ROWS // 2
    try:
        together = runner.plain(batch.rows(0, _PROBE_ROWS))
        apart = runner.plain(batch.rows(half, _PROBE_ROWS))
        runner.one(batch.rows(0, _PROBE_ROWS), opened=True)
    except CANNOT_BATCH:
        return None
    sizes = [together.numel(), *(math.prod(site.shape) for site in runner.sites)]
    per_row = max(sizes) / _PROBE_ROWS
    budget = CHUNK_ELEMENTS.get(tensors[0].device.type, 2**20)
    if per_row * n_rows <= budget:
        return None
    if together.shape[0] != _PROBE_ROWS or apart.shape[0] != half:
        return None
    tolerance = 1e-3 * float(together.abs().amax())
    if not torch.allclose(together[half:], apart, rtol=0, atol=tolerance, equal_nan=True):
        return None
    return max(1, int(budget / (_PASSES * per_row)))
