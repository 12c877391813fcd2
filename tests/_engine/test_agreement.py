"""Outputs agree up to rounding, column by column."""

from __future__ import annotations

import pytest
import torch

from mcdrop._engine.agreement import agree, tolerances

MANY = torch.linspace(1, 2, 10)[:, None] * torch.tensor([1e4, 1.0])


def test_an_error_small_beside_the_largest_column_is_seen_in_another() -> None:
    wrong = MANY.clone()
    wrong[3, 1] += 0.5
    assert not agree(wrong, MANY, 1e-3)
    wrong = MANY.clone()
    wrong[3, 0] += 0.5
    assert agree(wrong, MANY, 1e-3)


def test_rounding_of_the_largest_column_is_allowed_everywhere() -> None:
    # 64 times the rounding of 2e4 is 0.15.
    off = MANY + torch.tensor([0.0, 0.1])
    assert agree(off, MANY, 0.0)
    assert not agree(MANY + torch.tensor([0.0, 0.2]), MANY, 0.0)


def test_few_rows_do_not_tell_the_size_of_a_column() -> None:
    few = MANY[:7]
    assert tolerances(few, 1e-3).shape == ()
    assert tolerances(MANY, 1e-3).shape == (1, 2)


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 3, 2), (1, 1, 2)), ((8, 2, 3, 3), (1, 2, 1, 1)), ((8,), ())]
)
def test_columns_lie_last_or_first_of_a_picture(
    shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert tolerances(torch.ones(shape), 0.1).shape == expected


def test_what_is_not_finite_has_to_be_the_same() -> None:
    inf, nan = float("inf"), float("nan")
    output = torch.tensor([inf, -inf, nan, 1.0])
    assert agree(output, output.clone(), 0.1)
    assert agree(output, torch.tensor([inf, -inf, nan, 1.05]), 0.1)
    for other in ([-inf, -inf, nan, 1.0], [inf, -inf, 1.0, 1.0], [inf, -inf, nan, nan]):
        assert not agree(torch.tensor(other), output, 0.1)
        assert not agree(output, torch.tensor(other), 0.1)


def test_no_rows_agree() -> None:
    assert agree(torch.empty(0, 2), torch.empty(0, 2), 0.1)
