"""The second-moment loss: by hand, its gradients, and what it does to the std."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.errors import RangeError, ShapeError
from mcdrop.layers import second_moment_loss


def test_second_moment_loss_by_hand() -> None:
    y, center, passed = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.5]), torch.tensor([3.0, 2.0])
    # (1 + 0.25) / 2, and 0.25 * ((3 - 1)^2 + (0.5 - 0.5)^2) / 2.
    assert second_moment_loss(passed, center, y, beta=0.25).item() == pytest.approx(0.625 + 0.5)


def test_only_the_passes_are_moved_by_the_second_term() -> None:
    center = torch.tensor([0.5], requires_grad=True)
    passed = torch.tensor([2.0], requires_grad=True)
    second_moment_loss(passed, center, torch.zeros(1), beta=0.5).backward()
    assert center.grad is not None
    assert passed.grad is not None
    assert center.grad.item() == pytest.approx(2 * 0.5)
    assert passed.grad.item() == pytest.approx(0.5 * 2 * (1.5 - 0.5))


def test_second_term_is_least_at_two_over_pi_of_the_noise() -> None:
    rng = torch.Generator().manual_seed(0)
    passed, noise = torch.randn(2, 200_000, generator=rng, dtype=torch.float64)
    scales = torch.linspace(0.3, 1.0, 71, dtype=torch.float64)
    center = torch.zeros(200_000, dtype=torch.float64)
    losses = [second_moment_loss(s * passed, center, noise, beta=1.0).item() for s in scales]
    assert float(scales[int(np.argmin(losses))]) == pytest.approx(2 / np.pi, abs=0.011)


def squared_error(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (net.train()(x) - y).square().mean()


def second_moment(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    center = net.eval()(x)
    return second_moment_loss(net.train()(x), center, y)


def trained(loss: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> tuple[float, float]:
    """Train on rows with noise of 0.3; return root mean square of std and error on fresh rows."""
    rng = torch.Generator().manual_seed(0)
    x = 4 * torch.rand(2000, 1, generator=rng) - 2
    y = torch.sin(2 * x) + 0.3 * torch.randn(2000, 1, generator=rng)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Linear(1, 100), nn.ReLU(), nn.Dropout(0.1), nn.Linear(100, 100), nn.ReLU(),
            nn.Dropout(0.1), nn.Linear(100, 1),
        )  # fmt: skip
        adam = torch.optim.Adam(net.parameters(), lr=3e-3)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 1500)
        for _ in range(1500):
            rows = torch.randperm(1000)[:100]
            adam.zero_grad()
            loss(net, x[rows], y[rows]).backward()
            adam.step()
            cosine.step()
    p = mcdrop.predict_with_uncertainty(net.eval(), x[1000:], n_samples=200, seed=0)
    return mcdrop.metrics.sharpness(p.std), mcdrop.metrics.rmse(p.mean, y[1000:])


@pytest.mark.slow
def test_the_spread_that_squared_error_takes_away_is_back() -> None:
    plain, plain_rmse = trained(squared_error)
    repaired, rmse = trained(second_moment)
    # The noise is 0.3, and (2 / pi) 0.3 = 0.19.
    assert plain < 0.1
    assert 0.15 < repaired < 0.23
    assert rmse < 1.05 * plain_rmse


def test_mistakes_are_named() -> None:
    y = torch.zeros(3)
    with pytest.raises(ShapeError, match=r"`center` to have shape \(3,\) to match `y`"):
        second_moment_loss(y, torch.zeros(3, 1), y)
    with pytest.raises(ShapeError, match="second_moment_loss: expected `passed`"):
        second_moment_loss(torch.zeros(2), y, y)
    with pytest.raises(RangeError, match="`beta` to be a finite number above 0"):
        second_moment_loss(y, y, y, beta=0)
