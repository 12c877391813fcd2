"""Models that use the global generators of torch, NumPy or Python: seeded by pass, and put back."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._live.global_random import run_unmoved, seeded
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


def from_numpys_generator() -> None:
    np.random.rand()


def from_pythons_generator() -> None:
    random.gauss(0, 1)


def from_torchs_generator() -> None:
    torch.poisson(torch.ones(3))


DRAWS = [from_numpys_generator, from_pythons_generator, from_torchs_generator]


@pytest.mark.parametrize("drawing", DRAWS)
def test_a_draw_is_noticed_and_taken_back(drawing: Callable[[], None]) -> None:
    before = states()
    assert run_unmoved(drawing) == (None, True)
    assert states() == before
    with seeded(3) as found:
        drawing()
    assert found.used
    assert states() == before


def test_what_draws_nothing_is_noticed_too() -> None:
    attention = nn.MultiheadAttention(4, 2).eval()
    x = torch.zeros(3, 2, 4)

    def run() -> None:
        attention(x, x, x)
        np.random.default_rng(0).random()
        random.Random(0).random()
        torch.rand(3, generator=torch.Generator())
        F.rrelu(x, training=False)
        F.dropout(x, 0.5, training=False)

    assert run_unmoved(run) == (None, False)


@pytest.mark.parametrize("drawing", DRAWS)
def test_what_other_threads_draw_is_theirs(drawing: Callable[[], None]) -> None:
    others = [drawing]

    def elsewhere() -> None:
        if others:
            thread = threading.Thread(target=others.pop())
            thread.start()
            thread.join()

    before = states()
    assert run_unmoved(elsewhere) == (None, False)
    assert states() != before


def test_other_threads_keep_their_numbers() -> None:
    model = mcdrop.wrap(nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 1)).eval())
    torch.manual_seed(0)
    expected = torch.cat([torch.rand(50) for _ in range(400)])
    torch.manual_seed(0)
    found: list[Tensor] = []

    def draws() -> None:
        for _ in range(400):
            found.append(torch.rand(50))
            time.sleep(1e-4)

    thread = threading.Thread(target=draws)
    thread.start()
    while thread.is_alive():
        model.predict_with_uncertainty(X, n_samples=8, seed=0, device="cpu", task="regression")
    assert torch.equal(torch.cat(found), expected)


def test_a_model_that_draws_for_some_inputs_only_is_noticed_then() -> None:
    class Sometimes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = F.dropout(x, 0.5)
            return x * np.random.rand() if not x.any() else x

    before = states()
    mc = mcdrop.wrap(Sometimes().eval())
    for x in (X, 0 * X, X):
        mc(x)
        assert states() == before


def test_state_is_put_back_after_an_exception() -> None:
    def interrupted() -> None:
        with seeded(3):
            random.random()
            raise KeyboardInterrupt

    def draws_and_raises() -> None:
        random.random()
        raise KeyboardInterrupt

    before = states()
    for run in (interrupted, lambda: run_unmoved(draws_and_raises)):
        with pytest.raises(KeyboardInterrupt):
            run()
        assert states() == before


def test_one_pass_leaves_the_generators_alone() -> None:
    model = Draws(from_numpy).eval()
    before = states()
    mc = mcdrop.wrap(model)
    for _ in range(3):
        mc(X)
        assert states() == before
