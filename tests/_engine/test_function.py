"""A draw from the posterior is one function: of any batch shape, differentiable, repeatable."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop

NET = nn.Sequential(
    nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 16), nn.Dropout(0.2),
    nn.Linear(16, 2),
).double()  # fmt: skip
X = torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_it_is_the_pass_of_that_number_with_shared_masks() -> None:
    # Fewer than 32 stratified passes of a seed are others than the first of more.
    passes = mcdrop.wrap(NET, masks="shared").sample(X[0], 32, seed=7)
    functions = mcdrop.wrap(NET).functions(32, seed=7)
    for each, expected in zip(functions, passes, strict=True):
        torch.testing.assert_close(each(X[0]), expected)
    torch.testing.assert_close(mcdrop.wrap(NET).function(7, 19)(X[0]), passes[19])


@pytest.mark.parametrize("shape", [(3,), (1, 3), (7, 3), (2, 4, 3), (2, 1, 4, 3)])
def test_the_batch_shape_does_not_matter(shape: tuple[int, ...]) -> None:
    f = mcdrop.wrap(NET).function(seed=1)
    x = torch.randn(shape, dtype=torch.float64)
    found = f(x)
    assert found.shape == (*shape[:-1], 2)
    one_by_one = torch.stack([f(row) for row in x.reshape(-1, 3)])
    torch.testing.assert_close(found.reshape(-1, 2), one_by_one)


def test_gradients_are_those_of_the_function() -> None:
    f = mcdrop.wrap(NET).function(seed=1, index=3)
    x = X[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(f, (x,))
    # Two calls before the gradients are taken do not disturb one another.
    first, second = f(x), f(2 * x)
    (one,) = torch.autograd.grad(first.sum(), x)
    (alone,) = torch.autograd.grad(f(x).sum(), x)
    torch.testing.assert_close(one, alone)
    assert second.requires_grad


def test_seeds_and_numbers_draw_different_functions_around_the_mean() -> None:
    mc = mcdrop.wrap(NET, stratified=False)
    x = X[0, :1]
    outputs = torch.stack([mc.function(seed, i)(x) for seed in range(8) for i in range(8)])
    assert len(outputs.flatten(1).unique(dim=0)) == 64
    # Over masks, the second layer's mean output is that of the plain net: it is linear.
    plain = NET.eval()(x)
    error = outputs.std(dim=0) / 64**0.5
    assert bool(((outputs.mean(dim=0) - plain).abs() < 5 * error).all())


def test_it_follows_the_weights_and_leaves_the_model_alone() -> None:
    linear = nn.Linear(3, 1)
    net = nn.Sequential(nn.Dropout(0.5), linear).double()
    f = mcdrop.wrap(net).function(seed=0)
    state = torch.get_rng_state()
    before = f(X[0])
    with torch.no_grad():
        linear.weight.mul_(2)
        linear.bias.mul_(2)
    torch.testing.assert_close(f(X[0]), 2 * before)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.drop(self.convolution(x).mean(dim=(2, 3))))}


def test_rows_may_be_pictures_and_outputs_be_picked() -> None:
    f = mcdrop.wrap(Pictures()).function(0, row_ndim=3, select="logits")
    x = torch.randn(2, 3, 1, 6, 6)
    assert f(x).shape == (2, 3, 2)
    torch.testing.assert_close(f(x)[1, 2], f(x[1, 2]))


def test_the_largest_of_a_drawn_function_is_where_its_gradient_leads() -> None:
    """Thompson sampling on a known toy: it finds the optimum of an unknown function."""
    torch.manual_seed(0)

    def truth(x: Tensor) -> Tensor:
        return -((x - 0.7) ** 2).sum(dim=-1, keepdim=True)

    x = torch.rand(6, 1)
    net = nn.Sequential(
        nn.Linear(1, 32), nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 32), nn.Tanh(),
        nn.Dropout(0.1), nn.Linear(32, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(8):
        for _ in range(150):
            optimizer.zero_grad()
            (net(x) - truth(x)).square().mean().backward()
            optimizer.step()
        tried = torch.linspace(0, 1, 101).reshape(-1, 1)
        for f in mcdrop.wrap(net).functions(4, seed=step):
            x = torch.cat([x, tried[f(tried).argmax()].reshape(1, 1)])
    best = x[truth(x).argmax()]
    assert abs(best.item() - 0.7) < 0.05


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda mc: mc.function(-1), mcdrop.RangeError, "function: expected `seed` to be an int"),
        (lambda mc: mc.function(0, -1), mcdrop.RangeError, "`index` to be an integer of at least"),
        (lambda mc: mc.functions(0, 0), mcdrop.RangeError, "functions: expected `k` to be an int"),
        (lambda mc: mc.function(0)(X.numpy()), mcdrop.UnsupportedError, "`x` to be a tensor"),
        (lambda mc: mc.function(0)(X[:0]), mcdrop.ShapeError, r"got shape \(0, 5, 3\)"),
        (lambda mc: mc.function(0, row_ndim=4)(X), mcdrop.ShapeError, r"rows of 4 dimension\(s\)"),
        (lambda mc: mc.function(0)(X[..., :2]), mcdrop.ShapeError, "fails in 0"),
    ],
)
def test_obvious_mistakes_are_named(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(mcdrop.wrap(NET))
