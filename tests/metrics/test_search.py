"""The minimum of many functions at once, against parabolas and SciPy."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from mcdrop.metrics._search import positive_minimum


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(st.lists(st.floats(0.011, 99), min_size=1, max_size=5))
def test_parabolas_on_the_log_scale_have_their_own_minima(centers: list[float]) -> None:
    center = tensor(*centers)
    low, high = torch.full_like(center, 0.01), torch.full_like(center, 100.0)
    found, _ = positive_minimum(lambda x: (x.log() - center.log()).square(), low, high)
    torch.testing.assert_close(found, center, rtol=1e-7, atol=0)


def test_the_lowest_of_several_valleys_is_found() -> None:
    # Two valleys, at 0.2 and at 5; the second is lower by 0.1.
    def loss(x: torch.Tensor) -> torch.Tensor:
        a, b = (x.log() - np.log(0.2)).square(), (x.log() - np.log(5)).square() - 0.1
        return torch.minimum(a, b)

    found, inside = positive_minimum(loss, tensor(0.01), tensor(100.0))
    torch.testing.assert_close(found, tensor(5.0), rtol=1e-7, atol=0)
    assert bool(inside.all())


def test_a_smooth_loss_agrees_with_brent() -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return x.log() + 3 / x + 0.1 * x

    best = optimize.minimize_scalar(
        lambda t: float(loss(torch.tensor(np.exp(t)))), bounds=(-3, 3), method="bounded"
    )
    found, _ = positive_minimum(loss, tensor(0.05), tensor(20.0))
    # d/dx: 1 / x - 3 / x^2 + 0.1 = 0, so x^2 + 10 x - 30 = 0.
    assert abs(found.item() - (-5 + 55**0.5)) < 1e-6
    assert abs(np.log(found.item()) - best.x) < 1e-5


def test_a_loss_without_a_minimum_says_so() -> None:
    found, inside = positive_minimum(lambda x: -x, tensor(0.5, 1.0), tensor(2.0, 4.0))
    assert inside.tolist() == [False, False]
    torch.testing.assert_close(found, tensor(2.0, 4.0), rtol=1e-6, atol=0)
