"""Passes folded into rows: every row meets the mask of its pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._export.folding import CannotFoldError, FoldedCall, Folding
from mcdrop._live.rules import live_rules
from mcdrop._masks.rows import RowDim, RowLayout
from mcdrop._masks.source import MaskSource, Span

S, N = 4, 3
SOURCE = MaskSource(0, torch.device("cpu"), stratified=True)
BY_ROW = (RowDim(0, 1),)


def call_of(*sites: tuple[RowDim, ...]) -> FoldedCall:
    rows = RowLayout(sites, ())
    return FoldedCall(live_rules(), SOURCE, False, Span(), rows=rows, n_passes=S)


def kept(shape: tuple[int, ...], site: int = 0) -> Tensor:
    return SOURCE.keep(0.5, shape, site, Span(0, 0, S)).clone()


@pytest.mark.parametrize(
    ("shape", "row", "one_row", "layout"),
    [
        ((N, 5), RowDim(0, 1), (1, 5), "rows first"),
        ((2, N, 5), RowDim(1, 1), (2, 1, 5), "time first"),
        ((N * 2, 5), RowDim(0, 2), (2, 5), "rows outside"),
        ((2 * N, 5), RowDim(0, 2, rows_first=False), (2, 5), "rows inside"),
    ],
)
def test_masks_are_laid_out_as_rows_are(
    shape: tuple[int, ...], row: RowDim, one_row: tuple[int, ...], layout: str
) -> None:
    folded = list(shape)
    folded[row.dim] *= S
    x = torch.ones(folded)
    with torch.no_grad(), Folding(call_of((row,)), [x], S * N, at_input=True):
        dropped = F.dropout(x, 0.5, training=True)
    mask = 2.0 * kept(one_row).float()
    for s in range(S):
        for n in range(N):
            found, expected = {
                "rows first": lambda s=s, n=n: (dropped[s * N + n], mask[s, 0]),
                "time first": lambda s=s, n=n: (dropped[:, s * N + n], mask[s, :, 0]),
                "rows outside": lambda s=s, n=n: (dropped.view(S, N, 2, 5)[s, n], mask[s]),
                "rows inside": lambda s=s, n=n: (dropped.view(2, S, N, 5)[:, s, n], mask[s]),
            }[layout]()
            torch.testing.assert_close(found, expected)


def test_rows_are_repeated_where_they_are_first_dropped_out() -> None:
    x = torch.randn(N, 5)
    with torch.no_grad(), Folding(call_of(BY_ROW), [x], N, at_input=False) as mode:
        before = x * 2
        dropped = F.dropout(before, 0.5, training=True)
        # What was not dropped out meets what was.
        result = before + dropped
        sizes = [before.shape[0], dropped.shape[0], mode.fold(before).shape[0]]
    assert sizes == [N, S * N, S * N]
    expected = 2 * x + 2 * 2 * x * kept((1, 5)).float()
    torch.testing.assert_close(result.view(S, N, 5), expected)


def test_what_cannot_be_folded_says_why() -> None:
    x = torch.randn(N, 5)
    for rows, text in (((), "with no rows"), ((RowDim(0, 1), RowDim(1, 1)), "two dimensions")):
        folding = Folding(call_of(rows), [x], N, at_input=False)
        with pytest.raises(CannotFoldError, match=text), folding:
            F.dropout(x, 0.5, training=True)
    folding = Folding(call_of(BY_ROW), [x], N, at_input=False)
    with pytest.raises(CannotFoldError, match=r"shape \(5, 3\) meets dropped-out rows"), folding:
        F.dropout(x, 0.5, training=True).sum() + x.t()


def test_initial_states_fit_the_rows_before_torch_reads_them() -> None:
    net = torch.nn.LSTM(5, 4, 2, dropout=0.5, batch_first=True)
    x, state = torch.randn(N, 2, 5), torch.zeros(2, N + 1, 4)
    weights: Any = [w for layer in net.all_weights for w in layer]
    folding = Folding(call_of(BY_ROW), [x], N, at_input=False)
    with pytest.raises(CannotFoldError, match="initial states of a recurrent layer"), folding:
        torch.lstm(x, (state, state), weights, True, 2, 0.5, False, False, True)
