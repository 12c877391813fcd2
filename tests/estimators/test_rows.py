"""Training rows do not depend on order or copies, and folds are even."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop.estimators.rows import folds, rounded, training_rows


def test_a_weight_of_k_is_k_copies_in_any_order_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    weight = rng.integers(0, 4, size=20).astype(float)
    weighted = training_rows(X, y, weight)
    order = rng.permutation(int(weight.sum()))
    copies = np.repeat(np.arange(20), weight.astype(int))[order]
    copied = training_rows(X[copies], y[copies], None)
    for name in ("x", "y", "weight"):
        assert torch.equal(getattr(weighted, name), getattr(copied, name))
    assert len(weighted) == (weight > 0).sum()
    assert weighted.weight.sum().item() == weight.sum()


def test_rows_with_one_input_and_two_targets_stay_apart() -> None:
    rows = training_rows([[1.0], [1.0], [1.0]], [[0.0], [1.0], [0.0]], None)
    assert rows.x.tolist() == [[1.0], [1.0]]
    assert rows.y.tolist() == [[0.0], [1.0]]
    assert rows.weight.tolist() == [2.0, 1.0]


def test_scales_are_weighted_and_constant_columns_keep_theirs() -> None:
    rows = training_rows([[1.0, 7.0], [4.0, 7.0]], [[0.0], [0.0]], np.array([2.0, 1.0]))
    mean, std = rows.scale(rows.x)
    # Mean (2 * 1 + 4) / 3, variance (2 * 1 + 4) / 3.
    torch.testing.assert_close(mean, torch.tensor([2.0, 7.0], dtype=torch.float64))
    torch.testing.assert_close(std, torch.tensor([2**0.5, 1.0], dtype=torch.float64))


def test_folds_share_out_every_stratum() -> None:
    strata = torch.tensor([0] * 10 + [1] * 5 + [2] * 6)
    found = folds(strata, 5, torch.Generator().manual_seed(0))
    for stratum in range(3):
        counts = torch.bincount(found[strata == stratum], minlength=5)
        assert counts.max() - counts.min() <= 1
    other = folds(strata, 5, torch.Generator().manual_seed(1))
    assert not torch.equal(found, other)


def test_columns_are_constant_by_their_values_and_not_by_their_size() -> None:
    x = np.column_stack([np.full(1000, 0.998), np.linspace(0, 1e-13, 1000)])
    rows = training_rows(x, np.zeros((1000, 1)), None)
    _, std = rows.scale(rows.x)
    # Uniform values over 1e-13 have that over the root of 12.
    assert std.tolist() == [1, pytest.approx(1e-13 / 12**0.5, rel=0.01)]


def test_scales_are_rounded_only_where_that_is_not_seen() -> None:
    # 1e8 + 1 lies between two numbers of float32, which are 8 apart there.
    mean = torch.tensor([0.1, 1e8 + 1, 1e8 + 1], dtype=torch.float64)
    std = torch.tensor([1.0, 1.0, 1e9], dtype=torch.float64)
    found, spread = rounded(mean, std)
    assert found.tolist() == [float(np.float32(0.1)), 1e8 + 1, 1e8]
    assert torch.equal(spread, std)
