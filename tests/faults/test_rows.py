"""The count itself."""

from __future__ import annotations

import numpy as np

from tests.faults.rows import rows_lost


def test_rows_missing_repeated_or_moved_are_lost() -> None:
    rows = np.arange(12.0).reshape(6, 2)
    assert rows_lost(rows, rows) == 0
    assert rows_lost(rows[:5], rows) == 1
    assert rows_lost(np.concatenate([rows, rows[:2]]), rows) == 2
    assert rows_lost(rows[::-1], rows) == 6
    wrong = rows.copy()
    wrong[3, 1] = np.nan
    assert rows_lost(wrong, rows) == 1
