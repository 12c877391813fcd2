"""Slopes sorted by row; that they make the linear part is tested for whole networks."""

from __future__ import annotations

import torch

from mcdrop._engine.site_slopes import by_row
from mcdrop._masks.rows import RowDim


def test_units_are_sorted_by_row_wherever_rows_lie() -> None:
    values = torch.arange(24).view(1, 2, 6, 2)
    # Rows are the outer part of dimension 1: entries 0-2 belong to row 0, 3-5 to row 1.
    outer = by_row(values, RowDim(1, 3))
    assert outer.shape == (1, 2, 12)
    assert outer[0, 1].tolist() == values[0, :, 3:].flatten().tolist()
    inner = by_row(values, RowDim(1, 3, rows_first=False))
    assert inner[0, 1].tolist() == values[0, :, 1::2].flatten().tolist()
