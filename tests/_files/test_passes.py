"""Masks by row number, and the first row at which a model fails."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import NonFiniteError, OutputError, ShapeError
from mcdrop._engine.settings import Settings
from mcdrop._files.blocks import Block
from mcdrop._files.passes import BlockPredictor
from mcdrop._tasks.settings import TaskSettings
from tests._files.cases import Breaks, network


def predictor(model: nn.Module) -> BlockPredictor:
    settings = TaskSettings(Settings("predict_file", model, {}, seed=0), "regression")
    return BlockPredictor(settings, "in.csv", lambda row: f"row {row}")


def block(first: int, x: np.ndarray) -> Block:
    return Block(first, x, pa.table({}))


def test_masks_belong_to_the_numbers_of_rows() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    whole = mcdrop.predict_with_uncertainty(network(), x, seed=0, control_variate=False)
    found = predictor(network())(block(12, x[12:]))
    assert isinstance(found, mcdrop.RegressionPrediction)
    torch.testing.assert_close(found.std, whole.std[12:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("row", [0, 1, 6, 7, 12])
@pytest.mark.parametrize("how", ["raise", "nan"])
def test_the_first_row_that_fails_is_found(row: int, how: str) -> None:
    x = np.zeros((13, 3))
    x[row:, 0] = 1e7 * (np.arange(row, 13) % 2 == row % 2)
    kind = OutputError if how == "raise" else NonFiniteError
    with pytest.raises(kind, match=rf"row {100 + row} of in\.csv"):
        predictor(Breaks(how).eval())(block(100, x))


def test_a_fault_of_every_row_is_told_as_it_is() -> None:
    with pytest.raises(ShapeError, match="a shape that Sequential can take"):
        predictor(network())(block(0, np.zeros((5, 4))))


class Sums(nn.Module):
    """Fails for rows whose sum is too large, none of which is at fault alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.abs().sum()) > 20:
            raise ValueError("too much")
        y: torch.Tensor = self.net(x)
        return y


def test_rows_that_fail_together_only_are_not_blamed_one_by_one() -> None:
    with pytest.raises(ValueError, match="too much"):
        predictor(Sums().eval())(block(0, np.ones((8, 3))))
