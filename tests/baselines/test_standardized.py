"""Standardized numbers, and networks in their own units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mcdrop.baselines.networks import L2Network
from mcdrop.baselines.stacked import Training
from mcdrop.baselines.standardized import InUnitsOfData, standardized_table
from mcdrop.errors import RangeError

X = np.random.default_rng(0).normal(size=(40, 2)) * [1e-3, 1e5] + [1e3, 0]
Y = np.stack([X[:, 0], 3 * X[:, 1]], axis=1)


def test_columns_have_mean_zero_and_variance_one() -> None:
    table = standardized_table("f", "regression", X, Y)
    for values in (table.X, table.y):
        torch.testing.assert_close(values.mean(dim=0), torch.zeros(2), atol=1e-5, rtol=0.0)
        torch.testing.assert_close(values.var(dim=0, correction=0), torch.ones(2))
    assert (table.n_outputs, table.target_shape) == (2, (2,))
    constant = standardized_table("f", "regression", np.full((20, 1), 0.1), np.ones(20))
    assert float(constant.X.abs().max()) < 1e-6


def test_outputs_are_put_back_into_units_of_y() -> None:
    class First(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    table = standardized_table("f", "regression", X, Y)
    found = InUnitsOfData(First(), table)(torch.from_numpy(X))
    np.testing.assert_allclose(found, Y, rtol=1e-6)

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, torch.zeros_like(x)], dim=1)

    table = standardized_table("f", "heteroscedastic", X, Y)
    assert table.n_outputs == 4
    mean, log_variance = InUnitsOfData(Pair(), table)(torch.from_numpy(X))
    np.testing.assert_allclose(mean, Y, rtol=1e-6)
    np.testing.assert_allclose((log_variance / 2).exp()[0], Y.std(axis=0))


def test_labels_stay_labels() -> None:
    table = standardized_table("f", "classification", X, np.arange(40) % 3)
    assert table.y.dtype == torch.int64
    assert table.n_outputs == 3
    with pytest.raises(RangeError, match="f: expected `X` to hold at least 10 rows, but got 9"):
        standardized_table("f", "regression", X[:9], Y[:9])


def test_trained_networks_take_and_return_units_of_the_data() -> None:
    y = 1e4 + 50 * X[:, 1]

    def build(n_inputs: int, n_outputs: int) -> nn.Module:
        return nn.Linear(n_inputs, n_outputs)

    model = L2Network(build, weight_decay=[0.0], training=Training(max_epochs=300)).fit(X, y)
    (network,) = model.networks
    found = network(torch.from_numpy(X)).squeeze(-1).detach()
    np.testing.assert_allclose(found, y, rtol=1e-3)
    assert not network.training


def test_a_constant_column_of_many_rows_is_known_as_one() -> None:
    X = np.column_stack([np.arange(400_000) % 7, np.full(400_000, 0.998)])
    # The rounding of the mean is more than the digits that tell constants by their spread.
    assert X.std(axis=0)[1] > 1e-12
    table = standardized_table("f", "regression", X, X[:, 0])
    assert table.scale[1] == 1
