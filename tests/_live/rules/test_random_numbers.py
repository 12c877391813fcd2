"""Random numbers that a model draws itself: from our streams, one for each pass and call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from tests._live.rules.calls import Function
from tests.passes import draw

X = torch.full((6, 50), 0.4)

FRESH: dict[str, Callable[[Tensor], Tensor]] = {
    "rand": lambda x: torch.rand(6, 50),
    "randn": lambda x: torch.randn(size=(6, 50)),
    "randint": lambda x: torch.randint(0, 1000, (6, 50)).float(),
    "randperm": lambda x: torch.randperm(300).view(6, 50).float(),
    "rand_like": torch.rand_like,
    "randn_like": lambda x: torch.randn_like(input=x),
    "randint_like": lambda x: torch.randint_like(x, 1000),
    "bernoulli": torch.bernoulli,
    "Tensor.bernoulli": lambda x: x.bernoulli(),
    "poisson": lambda x: torch.poisson(10 * x),
    "normal": lambda x: torch.normal(x, 1.0),
    "normal of numbers": lambda x: torch.normal(0.0, 1.0, (6, 50)),
    "multinomial": lambda x: torch.multinomial(x, 50).float(),
}
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "bernoulli_": lambda x: x.bernoulli_(0.5),
    "cauchy_": lambda x: x.cauchy_(),
    "exponential_": lambda x: x.exponential_(),
    "geometric_": lambda x: x.geometric_(0.1),
    "log_normal_": lambda x: x.log_normal_(),
    "normal_": lambda x: x.normal_(1.0, 2.0),
    "random_": lambda x: x.random_(1000),
    "uniform_": lambda x: x.uniform_(-1, 1),
}
ALL = {**FRESH, **IN_PLACE}


def noisy(function: Callable[[Tensor], Tensor]) -> nn.Module:
    """Make a model of which half the output is dropout and half the numbers of the function."""
    drop = nn.Dropout(0.5)
    return Function(lambda x: torch.cat([drop(x), function(drop(x) * 0 + x)], dim=1))


def numbers(passes: Tensor) -> Tensor:
    return passes[:, :, 50:]


@pytest.mark.parametrize("function", ALL.values(), ids=ALL.keys())
def test_numbers_differ_by_pass_and_are_the_same_in_both_strategies(
    function: Callable[[Tensor], Tensor],
) -> None:
    state = torch.get_rng_state()
    found, run = draw(noisy(function), X, 6, "auto")
    assert run.strategy == "vectorized", run.reason
    assert torch.equal(found, draw(noisy(function), X, 6, "sequential")[0])
    assert torch.equal(found, draw(noisy(function), X, 6, "auto", sample_chunk=4)[0])
    assert len(numbers(found).flatten(1).unique(dim=0)) == 6
    assert not torch.equal(numbers(found), numbers(draw(noisy(function), X, 6, seed=1)[0]))
    assert torch.equal(torch.get_rng_state(), state)


def test_two_calls_and_two_batches_have_numbers_of_their_own() -> None:
    model = noisy(lambda x: torch.rand(2, 100)[:, :50] + torch.rand(2, 100)[:, 50:])
    found, _ = draw(model, X, 4, batch_size=2)
    assert len(numbers(found).reshape(12, 2, 50).flatten(1).unique(dim=0)) == 12
    # Were the numbers of both calls the same, the two halves would be one permutation of another.
    pair = noisy(lambda x: torch.rand(6, 50) - torch.rand(6, 50))
    assert bool((numbers(draw(pair, X, 4)[0]) != 0).all())


def test_numbers_have_their_distribution() -> None:
    found, _ = draw(noisy(torch.randn_like), X, 200)
    values = numbers(found).double()
    n = values.numel()
    assert abs(values.mean().item()) < 4 / n**0.5
    # Var(s^2) = 2 / n for a standard normal.
    assert abs(values.var().item() - 1) < 4 * (2 / n) ** 0.5


@pytest.mark.parametrize(
    "draws",
    [
        lambda x: torch.randn(6, 50, generator=None),
        lambda x: torch.bernoulli(x, generator=None),
        lambda x: x.normal_(generator=None),
    ],
)
def test_a_generator_of_none_is_the_global_one(draws: Callable[[Tensor], Tensor]) -> None:
    state = torch.get_rng_state()
    found, _ = draw(noisy(draws), X, 3, "sequential")
    first, *others = numbers(found)
    assert not any(torch.equal(first, other) for other in others)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("kind", ["rand", "bernoulli", "uniform_"])
def test_a_generator_of_the_models_own_is_respected(kind: str) -> None:
    def drawing(generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        return {
            "rand": lambda x: torch.rand(6, 50, generator=generator),
            "bernoulli": lambda x: torch.bernoulli(x, generator=generator),
            "uniform_": lambda x: torch.empty(6, 50).uniform_(generator=generator),
        }[kind]

    mine, other = (torch.Generator().manual_seed(5) for _ in range(2))
    found, _ = draw(noisy(drawing(mine)), X, 3, "sequential")
    expected = drawing(other)
    # Passes come last; before them the model was looked at with two rows, one, all, and two again,
    # some times that are not counted here.
    passes = list(numbers(found))

    def drawn(looks: Sequence[int]) -> list[Tensor]:
        other.manual_seed(5)
        for n_looks, rows in zip(looks, (X[:2], X[:1], X, X[:2]), strict=True):
            for _ in range(n_looks):
                expected(rows)
        return [expected(X) for _ in passes]

    every = product(range(9), range(3), range(9), range(3))
    assert any(all(map(torch.equal, passes, drawn(looks))) for looks in every)


def test_a_module_named_as_stochastic_may_fill_an_empty_tensor() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                return x
            return x + torch.empty_like(x).uniform_(-1, 1)

    found, run = draw(Noise(), X, 64, stochastic=(Noise,))
    assert run.strategy == "vectorized"
    assert torch.equal(found, draw(Noise(), X, 64, "sequential", stochastic=(Noise,))[0])
    noise = (found - 0.4).double()
    assert bool((noise.abs() <= 1).all())
    assert noise.var().item() == pytest.approx(1 / 3, rel=0.05)


def test_shared_masks_share_the_numbers_of_stochastic_modules_by_row() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x) if self.training else x

    mc = mcdrop.wrap(Noise(), masks="shared", stochastic=(Noise,))
    found = mc.sample(X, 8, seed=0)
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert torch.equal(mc.sample(X[:2], 8, seed=0), found[:, :2])


def test_parameters_that_no_distribution_has_are_torchs_own_error() -> None:
    with pytest.raises(RuntimeError, match=r"p_in >= 0 && p_in <= 1"):
        draw(noisy(lambda x: torch.bernoulli(x + 1)), X, 4)
