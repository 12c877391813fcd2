"""What conformal intervals measure errors from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import mcdrop
from mcdrop.recalibration._interval_scores import moved_ends, score_base, scores_of
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_ends_are_rounded_outward(dtype: torch.dtype) -> None:
    middle = torch.linspace(-3, 30, 67, dtype=torch.float64)
    reach = torch.full_like(middle, 0.1)
    lower, upper = moved_ends(middle, middle, reach, dtype)
    assert bool((lower.double() <= middle - reach).all())
    assert bool((upper.double() >= middle + reach).all())
    # By two units in the last place at most.
    far = 2 * torch.finfo(dtype).eps * (middle.abs() + reach)
    assert bool((upper.double() - (middle + reach) <= far).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 20.3, 1e8 + 0.3])
def test_every_target_lies_in_the_interval_of_its_own_score(
    dtype: torch.dtype, offset: float
) -> None:
    rng = np.random.default_rng(0)
    target = torch.from_numpy(offset + np.round(rng.normal(size=1000), 1))
    center = torch.full_like(target, offset).to(dtype).double()
    scale = torch.from_numpy(rng.uniform(0.1, 3, 1000))
    for ends in ((center, center), (center - 0.7, center + 0.4)):
        scores = scores_of(target, *ends, scale, dtype)
        lower, upper = moved_ends(*ends, scores * scale, dtype)
        assert bool(((lower.double() <= target) & (target <= upper.double())).all())
