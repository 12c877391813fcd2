"""Laws of draws, and averages over them, against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcdrop._twin.laws import drawn, ends, expectation, law_of

X = torch.tensor([1.0, -2.0])


def test_laws_by_operator() -> None:
    assert law_of("bernoulli_", (X, 0.25), {}) == [(0.0, 0.75), (1.0, 0.25)]
    assert law_of("bernoulli", (torch.full((2,), 0.25),), {}) == [(0.0, 0.75), (1.0, 0.25)]
    assert law_of("bernoulli", (torch.tensor([0.25, 0.5]),), {}) is None
    assert law_of("rand", ([2],), {}) == (0.0, 1.0)
    assert law_of("uniform_", (X, -1.0), {"to": 3.0}) == (-1.0, 3.0)
    assert law_of("normal_", (X, 2.0), {"std": 3.0}) == [(-1.0, 0.5), (5.0, 0.5)]
    assert law_of("poisson", (X,), {}) is None


def test_inverted_dropout_averages_to_its_input_and_drops() -> None:
    law = law_of("bernoulli_", (X, 0.75), {})
    answer = expectation(law, lambda v: torch.full((2,), v), lambda v: X * v / 0.75)
    assert answer is not None
    torch.testing.assert_close(answer.mean, X)
    assert answer.meets == "mask"


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_threshold_is_found(p: float) -> None:
    def keep(value: float) -> Tensor:
        return (torch.full((2,), value) >= p).float()

    answer = expectation((0.0, 1.0), keep, lambda v: X * keep(v))
    assert answer is not None
    torch.testing.assert_close(answer.mean, X * (1 - p), atol=1e-5, rtol=0)
    assert answer.meets == "mask"


def test_smooth_functions_are_averaged_up_to_cubic_terms() -> None:
    def cube(value: float) -> Tensor:
        return torch.full((2,), value) ** 3

    # The mean of u ** 3 on (0, 2) is 2; that of z ** 2 for a standard normal is 1.
    answer = expectation((0.0, 2.0), cube, lambda v: X * 0 + cube(v))
    assert answer is not None
    torch.testing.assert_close(answer.mean, torch.full((2,), 2.0))
    assert answer.meets == "noise"
    normal = law_of("randn", ([2],), {})
    squared = expectation(normal, lambda v: torch.full((2,), v), lambda v: X + v**2)
    assert squared is not None
    torch.testing.assert_close(squared.mean, X + 1)


def test_integers_and_unknown_laws_have_no_average() -> None:
    assert expectation(None, lambda v: X, lambda v: X) is None
    assert expectation([(0.0, 1.0)], lambda v: X, lambda v: X.long()) is None
    assert ends(None) == []
    assert ends((0.0, 1.0))[0] == 0.0


def test_draws_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    aten = torch.ops.aten
    for operator, name, args in (
        (aten.bernoulli_.float, "bernoulli_", (X.clone(), 0.5)),
        (aten.rand.default, "rand", ([2],)),
        (aten.rand_like.default, "rand_like", (X,)),
        (aten.randn_like.default, "randn_like", (X,)),
        (aten.randint.default, "randint", (5, [2])),
    ):
        first = drawn(operator, name, args, {}, 1).clone()
        torch.testing.assert_close(drawn(operator, name, args, {}, 1), first)
    assert torch.equal(torch.get_rng_state(), state)
