"""Checks of arguments: each accepts what it should and names the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mcdrop import checks
from mcdrop.checks import checked_mapping
from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError

Y = torch.zeros(3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: checks.require_choice("f", "kind", "c", ("a", "b")),
            RangeError,
            'f: expected `kind` to be one of "a", "b", but got \'c\'. Pick one of these names.',
        ),
        (
            lambda: checks.require_count("f", "k", True),
            RangeError,
            "f: expected `k` to be an integer of at least 1, but got True. Pass a number.",
        ),
        (
            lambda: checks.require_count("f", "k", 2.0, 2),
            RangeError,
            "f: expected `k` to be an integer of at least 2, but got 2.0. Pass a number.",
        ),
        (
            lambda: checks.require_count("f", "batch_size", "all", auto=True),
            RangeError,
            "f: expected `batch_size` to be an integer of at least 1, or \"auto\", but got 'all'. "
            "Pass a number.",
        ),
        (
            lambda: checks.require_flag("f", "alive", "no"),
            RangeError,
            "f: expected `alive` to be True or False, but got 'no'. Pass one of the two.",
        ),
        (
            lambda: checks.require_seed("f", "random_state", 2**32),
            RangeError,
            "f: expected `random_state` to be an integer from 0 to 2**32 - 1, but got 4294967296. "
            "Pass 0.",
        ),
        (
            lambda: checks.checked_positive("f", "weight_decay", -1, zero=True),
            RangeError,
            "f: expected `weight_decay` to be a finite number of at least 0, but got -1. "
            "Pass a positive number.",
        ),
        (
            lambda: checks.checked_positive("f", "c", True),
            RangeError,
            "f: expected `c` to be a finite number above 0, but got True. Pass a positive number.",
        ),
        (
            lambda: checks.require_unit("f", "level", 95),
            RangeError,
            "f: expected `level` to lie in (0, 1), but got 95. Write ninety percent as 0.9.",
        ),
        (
            lambda: checks.require_unit("f", "share", "half", one=True),
            RangeError,
            "f: expected `share` to lie in (0, 1], but got 'half'. Write ninety percent as 0.9.",
        ),
        (
            lambda: checks.checked_positive("f", "tau", float("inf")),
            RangeError,
            "f: expected `tau` to be a finite number above 0, but got inf. Pass a positive number.",
        ),
        (
            lambda: checks.checked_rate("f", 1),
            RangeError,
            "f: expected `p` to lie in [0, 1), but got 1. "
            "Pass the probability with which a unit is dropped.",
        ),
        (
            lambda: checks.require_fitted("f", None, "prediction, y"),
            UnsupportedError,
            "f: expected `self` to be fitted, but got no fit so far. "
            "Call fit(prediction, y) first.",
        ),
        (
            lambda: checks.checked_passes("f", "auto", tolerance=None, keep_samples=True),
            RangeError,
            "f: expected `keep_samples` to be False for n_samples='auto', where rows take "
            "different numbers of passes, but got True. Pass a number as n_samples.",
        ),
        (
            lambda: checks.checked_passes("f", 9, tolerance=0.1, keep_samples=False),
            RangeError,
            "f: expected `tolerance` to be None for a given number of passes, but got 0.1. "
            "Pass n_samples='auto' to run as many passes as it asks for.",
        ),
        (
            lambda: checks.checked_model("net"),
            UnsupportedError,
            "wrap: expected `model` to be a torch.nn.Module, but got str. "
            "Pass the trained model itself.",
        ),
        (
            lambda: checks.checked_noise("f", 0.0),
            RangeError,
            "f: expected `noise_std` to be a positive number, or one per output, but got 0.0. "
            "Pass the standard deviation of the observation noise in units of y.",
        ),
        (
            lambda: checks.require_rows("f", "y", torch.zeros(0)),
            ShapeError,
            "f: expected `y` to hold at least one row, but got shape (0,). "
            "Check how the rows were selected.",
        ),
        (
            lambda: checks.require_finite("f", axis=1, a=torch.tensor([[0.0, float("nan")]])),
            NonFiniteError,
            "f: expected `a` to hold finite numbers, but got NaN or infinity in row 1. "
            "Drop or repair these rows.",
        ),
        (
            lambda: checks.require_same_shape("f", "std", Y[:, None], Y),
            ShapeError,
            "f: expected `std` to have shape (3,) to match `y`, but got (3, 1). "
            "Drop the last axis: std.squeeze(-1).",
        ),
        (
            lambda: checks.require_same_shape("f", "std", Y, Y[:, None]),
            ShapeError,
            "f: expected `std` to have shape (3, 1) to match `y`, but got (3,). "
            "Drop the last axis of `y`: y.squeeze(-1).",
        ),
        (
            lambda: checks.require_spread("f", "std", torch.tensor([1.0, 0.0])),
            RangeError,
            "f: expected `std` to be greater than 0, but got 0 in row 1. "
            "Add the observation noise or drop these rows.",
        ),
        (
            lambda: checks.require_spread("f", "std", torch.tensor([-1.0]), zero=True),
            RangeError,
            "f: expected `std` to be at least 0, but got -1 in row 0. "
            "Pass standard deviations, not logarithms.",
        ),
        (
            lambda: checks.require_probabilities("f", "p", torch.tensor([0.5, 1.5])),
            RangeError,
            "f: expected `p` to lie in [0, 1], but got 1.5 in row 1. "
            "Pass probabilities, not logits: apply softmax or sigmoid first.",
        ),
        (
            lambda: checks.require_readable("f", "y", torch.zeros(3, device="meta")),
            UnsupportedError,
            "f: expected `y` to hold numbers in all places, but got a meta tensor. "
            "Pass a dense tensor with data.",
        ),
        (
            lambda: checks.require_readable("f", "y", Y.to_sparse()),
            UnsupportedError,
            "f: expected `y` to hold numbers in all places, but got a sparse tensor. "
            "Pass its .to_dense().",
        ),
        (
            lambda: checks.require_readable("f", "y", np.ma.masked_greater([1.0, 2.0, 3.0], 1.5)),
            UnsupportedError,
            "f: expected `y` to hold numbers in all places, but got 2 masked ones. "
            "Drop these rows, or fill them.",
        ),
        (
            lambda: checks.require_labels("f", "y", torch.tensor([0.0, 0.5]), 2),
            RangeError,
            "f: expected `y` to hold class indices from 0 to 1, but got 0.5 in row 1. "
            "Code the two outcomes as 0 and 1.",
        ),
    ],
)
def test_refusals_name_argument_condition_value_and_remedy(
    call: Callable[[], Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


def test_what_fits_passes() -> None:
    checks.require_choice("f", "kind", "a", ("a", "b"))
    checks.require_count("f", "k", np.int64(3), 3)
    checks.require_unit("f", "level", np.float32(0.5))
    checks.require_unit("f", "share", 1, one=True)
    assert checks.checked_positive("f", "tau", 2) == 2.0
    assert checks.checked_rate("f", np.float64(0.25)) == 0.25
    assert checks.checked_rates(None) == {}
    assert checks.checked_rates(0.5) == {"": 0.5}
    assert checks.checked_rates({"a": 0}) == {"a": 0.0}
    assert checks.require_fitted("f", [1], "X, y") == [1]
    assert checks.checked_passes("f", 9, tolerance=None, keep_samples=True) == 9
    assert checks.checked_passes("f", "auto", tolerance=0.1, keep_samples=False) is None
    assert checks.checked_noise("f", None) is None
    assert torch.equal(checks.checked_noise("f", 2) or Y, torch.tensor(2.0).double())
    checks.require_probabilities("f", "p", torch.tensor([1.0005]), slack=1e-3)
    checks.require_labels("f", "y", torch.tensor([0.0, 2.0]), 3)
    checks.require_readable("f", "y", np.ma.masked_array([1.0], mask=False))
    net = nn.Linear(1, 1)
    assert checks.checked_model(net) is net


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ([2], "row 2"),
        ([0, 4], "rows 0, 4"),
        ([0, 1, 2], "rows 0, 1, 2"),
        (range(8), "rows 0, 1, 2 and 5 more"),
    ],
)
def test_rows_are_named_three_at_most(bad: list[int], text: str) -> None:
    mask = torch.zeros(9, 2, dtype=torch.bool)
    mask[list(bad), 1] = True
    assert checks.rows_text(mask) == text
    assert checks.rows_text(mask.T, axis=1) == text


def test_a_mapping_is_taken_and_none_is_empty() -> None:
    assert checked_mapping("f", "groups", {"a": 1}) == {"a": 1}
    assert checked_mapping("f", "groups", None) == {}
    for wrong in ([1, 2], "a", np.ones(3)):
        with pytest.raises(UnsupportedError, match=r"f: expected `groups` to be a dict by name"):
            checked_mapping("f", "groups", wrong)  # type: ignore[arg-type]
