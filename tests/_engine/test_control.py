"""When the linearized network is the control variate: decided by sizes, said in a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mcdrop._engine.batch import Batch
from mcdrop._engine.control import described, most_scores, obstacle, row_dims
from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.planner import Planner
from mcdrop._engine.settings import Settings
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.rows import RowDim

# 256 rows of 512 units and one output, and about 2 * 512^2 operations per row and pass.
LARGE = Plan(
    sites=(DropoutSite("0", "dropout", 0.5, 0, (256, 512), True),),
    output_numel=256,
    work_per_pass=256 * 2 * 512**2,
    linear=(RowDim(0, 1),),
)


def rows_of(n_rows: int) -> DropoutSite:
    return DropoutSite("0", "dropout", 0.5, 0, (n_rows, 512), True)


def test_eight_passes_are_enough() -> None:
    assert obstacle(LARGE, 8) == ""
    assert obstacle(LARGE, 7) == "7 passes are too few"


def test_slopes_have_to_fit_in_memory() -> None:
    plan = replace(LARGE, output_numel=256 * 1000)
    # 1000 outputs x 512 units x 256 rows; 2^26 numbers are those of 131 rows.
    told = obstacle(plan, 10**6)
    assert told.startswith("131,072,000 slopes do not fit in the memory set aside for them")
    assert told.endswith("; with batch_size=131 they would")
    assert obstacle(replace(plan, output_numel=131 * 1000, sites=(rows_of(131),)), 16) == ""
    single = replace(plan, output_numel=10**6, sites=(rows_of(1),))
    assert obstacle(single, 16).endswith("set aside for them")


def test_of_many_scores_few_are_linearized_and_of_pixels_none() -> None:
    plan = replace(LARGE, output_numel=256 * 200)
    assert obstacle(plan, 16, most_outputs=16) == ""
    pixels = replace(LARGE, output_numel=256 * 5000)
    assert obstacle(pixels, 16, most_outputs=16) == "5,000 scores per row are too many"


def test_classes_that_exclude_one_another_take_fewer_backward_passes() -> None:
    settings = Settings("f", nn.Linear(1, 1), {}, scores=lambda values: values)
    assert most_scores(replace(settings, scores=None), 2) is None
    assert most_scores(settings, 2) == 16
    exclusive = replace(settings, exclusive=True)
    few = replace(exclusive, n_samples=16)
    assert most_scores(few, 4) == 16
    assert most_scores(few, 2) == 5
    assert most_scores(replace(exclusive, n_samples=64), 2) == 8
    assert most_scores(replace(exclusive, n_samples=1000), 2) == 16
    # As many passes as a tolerance asks for.
    assert most_scores(exclusive, 2) == 16


def test_a_last_dropout_that_is_redrawn_is_left_to_it() -> None:
    redrawn = replace(LARGE, last_site=0, redraws=16)
    assert obstacle(redrawn, 16) == ""
    told = described(redrawn, asked=True)
    assert told == "last dropout (0) drawn 16 times a pass, linearized network as control variate"


def test_sites_that_are_integrated_or_have_no_rows_leave_nothing_to_it() -> None:
    assert obstacle(replace(LARGE, last_site=0), 100) == "nothing is left to it"
    without = replace(LARGE, linear=(None,))
    assert "cannot be told apart" in obstacle(without, 100)


def test_the_sentence_names_what_is_exact() -> None:
    assert described(LARGE, asked=True) == "linearized network as control variate"
    both = described(replace(LARGE, last_site=0), asked=True)
    assert both == "last dropout (0) in closed form, linearized network as control variate"
    without = replace(LARGE, linear=(), control="x")
    assert described(without, asked=True) == "no linearized network: x"
    assert described(without, asked=False) == ""


class Weighted(nn.Module):
    """Attention that returns its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, _ = self.attention(x, x, x, need_weights=True)
        return out.sum(dim=(1, 2))


def dims_of(model: nn.Module, x: torch.Tensor, **options: Any) -> tuple[RowDim | None, ...]:
    settings = Settings("f", model.eval(), {}, seed=0, **options)
    passes, batch = Passes(settings, 0, torch.device("cpu")), Batch((x,), {}, len(x))
    with torch.no_grad():
        plan = Planner(settings, passes).plan(batch, 16, rows_split=False)
        return row_dims(settings, passes, plan, batch)


def test_rows_that_a_shape_does_not_tell_are_found_by_leaving_some_out() -> None:
    # (rows, units) of the same size, so that the shape is ambiguous.
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 1))
    assert dims_of(model, torch.randn(6, 6)) == (RowDim(0, 1),)
    assert dims_of(model, torch.randn(7, 6), masks="shared") == (RowDim(0, 1),)
    # torch's attention merges rows and heads where it returns its weights.
    assert dims_of(Weighted(), torch.randn(3, 5, 8)) == (RowDim(0, 2),)
