"""Models that use the global generators of torch, NumPy or Python: seeded by pass, and put back."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._live.global_random import guarded
from tests.passes import draw

X = torch.ones(4, 6)


class Draws(nn.Module):
    """Dropout, and noise of its own."""

    def __init__(self, noise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.drop, self.noise = nn.Dropout(0.5), noise

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) + self.noise(x)


def from_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(np.random.standard_normal(x.shape[1])).to(x)


def from_python(x: Tensor) -> Tensor:
    return x * random.random()


def gamma(x: Tensor) -> Tensor:
    return torch.distributions.Gamma(x, x).sample()


def dirichlet(x: Tensor) -> Tensor:
    return torch.distributions.Dirichlet(x).sample()


def binomial(x: Tensor) -> Tensor:
    return torch.binomial(10 * x, x / 2)


def multinomial(x: Tensor) -> Tensor:
    return x.multinomial(6, replacement=True).to(x.dtype)


def gumbel(x: Tensor) -> Tensor:
    return F.gumbel_softmax(x)


def leaky(x: Tensor) -> Tensor:
    return F.rrelu(-x, training=True)


def pooled(x: Tensor) -> Tensor:
    images = torch.arange(4 * 81.0).view(4, 1, 9, 9)
    return F.fractional_max_pool2d(images, 2, output_size=4).flatten(1)[:, :6]


def init(x: Tensor) -> Tensor:
    return nn.init.normal_(torch.empty(6))


NOISES = [
    from_numpy, from_python, gamma, dirichlet, binomial, multinomial, gumbel, leaky, pooled, init,
]  # fmt: skip


def states() -> list[Any]:
    numpy_state: Any = np.random.get_state()
    return [torch.get_rng_state().tolist(), numpy_state[1].tolist(), random.getstate()]


@pytest.mark.parametrize("noise", NOISES)
def test_every_pass_has_numbers_of_its_own_and_the_seed_covers_them(
    noise: Callable[[Tensor], Tensor],
) -> None:
    model = Draws(noise).eval()
    before = states()
    found, run = draw(model, X, 20)
    assert states() == before, noise
    again, _ = draw(model, X, 20, sample_chunk=7)
    assert torch.equal(found, again)
    other, _ = draw(model, X, 20, seed=1)
    # With next to no dropout, the noise alone differs from pass to pass.
    p0, run = draw(model, X, 20, rates={"drop": 1e-9})
    assert len(p0.flatten(1).unique(dim=0)) > 10, run.reason
    assert not torch.equal(found, other)


def test_a_generator_of_the_callers_own_is_left_alone() -> None:
    with guarded() as randomness:
        torch.randn(3)
        np.random.rand()
    assert randomness.used
    with guarded(3) as randomness:
        pass
    assert not randomness.used


def test_state_is_put_back_after_an_exception() -> None:
    def interrupted() -> None:
        with guarded(3):
            random.random()
            raise KeyboardInterrupt

    before = states()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert states() == before


def test_one_pass_leaves_the_generators_alone() -> None:
    model = Draws(from_numpy).eval()
    before = states()
    mcdrop.wrap(model)(X)
    assert states() == before
