"""A number or several to choose from, in whatever container they come."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mcdrop.baselines import Deterministic, L2Network, LogisticL2, Ridge
from mcdrop.baselines.candidates import checked_decays, checked_open_rates, checked_rates
from mcdrop.errors import McdropError, RangeError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.5, (0.5,)),
        (0, (0.0,)),
        ([0.25, 0.5], (0.25, 0.5)),
        (np.array([0.25, 0.5]), (0.25, 0.5)),
        (np.float32(0.5), (0.5,)),
        (torch.tensor([0.25]), (0.25,)),
        ((rate / 4 for rate in range(2)), (0.0, 0.25)),
    ],
)
def test_a_number_or_several_become_a_tuple(given: Any, expected: tuple[float, ...]) -> None:
    assert checked_rates("fit", given) == expected


@pytest.mark.parametrize("given", [[], "0.1", ["0.1"], None, [None], True, 1.0, -0.1, math.nan])
def test_anything_else_is_refused_as_it_was_given(given: Any) -> None:
    text = r"fit: expected `p` to be a number in \[0, 1\), or several to choose from, but got "
    with pytest.raises(RangeError, match=text) as refused:
        checked_rates("fit", given)
    assert f"but got {given!r}. Pass [0.05, 0.2]." in str(refused.value)


def test_rates_to_sample_with_exclude_zero() -> None:
    assert checked_open_rates("tune", [0.1]) == (0.1,)
    with pytest.raises(RangeError, match=r"in \(0, 1\), or several .* got 0\. For no dropout see"):
        checked_open_rates("tune", 0)


def test_penalties_may_be_large_but_not_infinite() -> None:
    assert checked_decays("fit", [0, 100.0]) == (0.0, 100.0)
    with pytest.raises(RangeError, match="`weight_decay` to be a number of at least 0, or several"):
        checked_decays("fit", math.inf)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (Ridge, '`alpha` to be "cv" or a number >= 0'),
        (LogisticL2, '`C` to be "cv" or a number > 0'),
        (L2Network, "`network` to hold hidden widths of at least 1"),
        (Deterministic, r"`model` to be a torch\.nn\.Module"),
        (lambda v: Deterministic(nn.Linear(1, 1), output_type=v), "`output_type` to be one of"),
        (lambda v: Deterministic(nn.Linear(1, 1), batch_size=v), "`batch_size` to be an integer"),
    ],
)
def test_no_constructor_takes_what_is_no_number(make: Any, text: str) -> None:
    value: Any
    for value in (True, math.nan, -1, "none", [], {}, np.zeros(2), torch.zeros(2)):
        with pytest.raises(McdropError, match=text):
            make(value)
