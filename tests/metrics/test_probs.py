"""Class probabilities and labels: what is taken and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mcdrop.errors import McdropError
from mcdrop.metrics._probs import take_probs

HALF = np.full((3, 2), 0.5)


@pytest.mark.parametrize(
    ("probs", "y", "kind", "text"),
    [
        (HALF, HALF, "multiclass", r"class indices, not one-hot rows: y.argmax\(-1\)"),
        (HALF, [[0], [1], [0]], "multiclass", "Pass one class index per row"),
        ([0.5, 0.5], [0, 1], "multiclass", r'Say kind="binary" if these are P\(y = 1\)'),
        (HALF, [0, 1], "multiclass", r"`probs` to have shape \(2, C\) to match `y`, but got"),
        ([[1.0]], [0], "multiclass", "`probs` to have at least two columns"),
        (2 * HALF, [0, 1, 1], "multiclass", "rows that sum to one, but got a sum of 2 in rows"),
        (
            np.add(HALF, [[0, 9]]),
            [0, 1, 1],
            "multiclass",
            "lie in .0, 1., but got 9.5 in rows 0, 1, 2",
        ),
        (HALF, [0, 2, 1], "multiclass", "class indices from 0 to 1, but got 2 in row 1"),
        ([1.0001], [1], "binary", "lie in .0, 1., but got 1.0001 in row 0"),
        ([np.nan], [1], "binary", "`probs` to hold finite numbers"),
        ([], [], "binary", "`y` to hold at least one row"),
    ],
)
def test_refusals_say_what_to_do(probs: Any, y: Any, kind: str, text: str) -> None:
    with pytest.raises(McdropError, match=text):
        take_probs("f", probs, y, kind=kind)


def test_softmax_in_half_precision_is_taken() -> None:
    # The sum of 1000 rounded probabilities misses 1 by more than float32 would.
    probs = torch.softmax(torch.linspace(0, 3, 1000), dim=0).to(torch.bfloat16)[None]
    assert abs(float(probs.double().sum()) - 1) > 1e-5
    _, p, labels = take_probs("f", probs, [7], kind="multiclass")
    assert p.dtype == torch.float64
    assert labels.tolist() == [7]
