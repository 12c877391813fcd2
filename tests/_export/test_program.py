"""Arguments of an exported program have the names that the model gives them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._engine.batch import Batch
from mcdrop._engine.outputs import Selection
from mcdrop._export.folding import FoldedCall
from mcdrop._export.program import Program
from mcdrop._export.summary import RegressionSummary
from mcdrop._live.rules import live_rules
from mcdrop._masks.rows import RowDim, RowLayout
from mcdrop._masks.source import MaskSource, Span
from mcdrop._twin.copy import structural_copy
from mcdrop._twin.tracking import Tracker

X = torch.randn(3, 4)


def program_of(model: nn.Module, n_passes: int = 8) -> Program:
    twin = structural_copy(model)
    source = MaskSource(0, torch.device("cpu"), stratified=False)
    rows = RowLayout(((RowDim(0, 1),),), ())
    call = FoldedCall(live_rules(), source, False, Span(), rows=rows, n_passes=n_passes)
    summary = RegressionSummary(n_passes, stratified=False)
    tracker = Tracker("export", twin, ())
    return Program(twin, tracker, call, Selection(None), summary, at_input=False)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, image: Tensor, *, scale: Tensor) -> Tensor:
        return self.drop(image) * scale


def test_the_first_run_draws_masks_that_stay() -> None:
    program = program_of(nn.Sequential(nn.Dropout(0.5)))
    with torch.no_grad():
        first = program(X)
        masks = {name: x for name, x in program.named_buffers() if "mask" in name}
        assert {name: tuple(x.shape) for name, x in masks.items()} == {"mask_0": (8, 1, 4)}
        torch.testing.assert_close(program(X), first)


def test_names_are_those_of_the_forward() -> None:
    program = program_of(Named())
    batch = Batch((X,), {"scale": X}, 3)
    assert program.parameters_of(batch) == ["image", "scale"]
    assert program.input_names(batch) == ["image", "scale"]
    more = Batch((X, X, X), {"scale": X}, 3)
    assert program.parameters_of(more) == ["input_0", "input_1", "input_2", "scale"]
    nested: Any = Batch(((X, X),), {}, 3)
    assert program.input_names(nested) == ["input_0", "input_1"]


def test_arguments_can_be_given_by_place_or_by_name() -> None:
    program = program_of(Named())
    batch = Batch((X,), {"scale": X}, 3)
    with torch.no_grad():
        expected = program(X, scale=X)
        program.take_by_name(batch)
        for found in (program(X, scale=X), program(image=X, scale=X)):
            torch.testing.assert_close(found, expected)
