"""What conformal intervals measure errors from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import mcdrop
from mcdrop.recalibration._interval_scores import moved_ends, score_base
from tests.recalibration.cases import normal

P = normal([1.0, 2.0], [0.5, 2.0])


def test_each_method_has_its_center_and_unit() -> None:
    lower, upper, scale = score_base("f", P, "absolute", 0.9)
    assert torch.equal(lower, P.mean)
    assert torch.equal(upper, P.mean)
    assert scale.tolist() == [1, 1]
    assert score_base("f", P, "normalized", 0.9)[2].tolist() == [0.5, 2.0]
    lower, upper, scale = score_base("f", P, "quantile", 0.5)
    z = stats.norm.ppf(0.75)
    np.testing.assert_allclose(lower, [1 - 0.5 * z, 2 - 2 * z])
    np.testing.assert_allclose(upper, [1 + 0.5 * z, 2 + 2 * z])
    assert scale.tolist() == [1, 1]


def test_a_std_of_zero_divides_nothing() -> None:
    with pytest.raises(mcdrop.RangeError, match='f: .*std above 0 .* or use method="absolute"'):
        score_base("f", normal([0.0], 0.0), "normalized", 0.9)


def test_crossing_ends_meet_in_the_middle() -> None:
    reach = torch.tensor([1.0, -3.0, torch.inf])
    lower, upper = moved_ends(torch.zeros(3), 2 * torch.ones(3), reach, torch.float32)
    assert lower.tolist() == [-1, 1, -np.inf]
    assert upper.tolist() == [3, 1, np.inf]
