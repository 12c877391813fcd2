"""Dropout that a model, or its caller, differentiates with the transforms of torch.func."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop

# torch.func.jvp compiles what it needs with torch.jit, once.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def energy() -> nn.Sequential:
    torch.manual_seed(0)
    hidden = [nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 16), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Dropout(0.3), nn.Linear(16, 1))


def by_grad(net: nn.Module, x: Tensor) -> Tensor:
    return torch.func.grad(lambda rows: net(rows).sum())(x)


def by_jvp(net: nn.Module, x: Tensor) -> Tensor:
    # Summed over the unit vectors, this is the gradient.
    columns = [torch.func.jvp(net, (x,), (unit.expand_as(x),))[1] for unit in torch.eye(4)]
    return torch.cat(columns, dim=1)


class Slopes(nn.Module):
    """Returns derivatives of a network with dropout."""

    def __init__(self, slopes: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.slopes = energy(), slopes

    def forward(self, x: Tensor) -> Tensor:
        return self.slopes(self.net, x)


def test_a_model_that_differentiates_its_dropout_is_sampled() -> None:
    class ByAutograd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = energy()

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                rows = x.detach().requires_grad_()
                return torch.autograd.grad(self.net(rows).sum(), rows)[0]

    mc = mcdrop.wrap(Slopes(by_grad))
    passes = mc.sample(X, 20, seed=0)
    torch.testing.assert_close(passes, mcdrop.wrap(ByAutograd()).sample(X, 20, seed=0))
    run = mc.predict_with_uncertainty(X, n_samples=4, task="regression").run
    assert run is not None
    assert (run.strategy, "differentiates through its dropout" in run.reason) == (
        "sequential",
        True,
    )


def test_forward_and_backward_derivatives_meet_the_same_masks() -> None:
    class Once(Slopes):
        def forward(self, x: Tensor) -> Tensor:
            direction = torch.ones_like(x)
            out: Tensor = torch.func.jvp(self.net, (x,), (direction,))[1]
            return out

    backward = mcdrop.wrap(Slopes(by_grad)).sample(X, 8, seed=0)
    forward = mcdrop.wrap(Once(by_jvp)).sample(X, 8, seed=0)
    torch.testing.assert_close(forward[..., 0], backward.sum(dim=-1))


def test_a_draw_from_the_posterior_can_be_transformed() -> None:
    f = mcdrop.wrap(energy()).function(seed=0)
    rows = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(f(rows).sum(), rows)
    torch.testing.assert_close(torch.func.grad(lambda x: f(x).sum())(X), expected)
    torch.testing.assert_close(
        torch.func.jvp(f, (X,), (torch.ones_like(X),))[1][:, 0], expected.sum(dim=1)
    )


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap])
def test_a_prediction_inside_a_transform_is_refused(transform: Any) -> None:
    mc = mcdrop.wrap(energy())

    def mean(x: Tensor) -> Tensor:
        return mc.predict_with_uncertainty(x, n_samples=4).mean.sum()

    text = r"outside transforms of torch\.func, as predictions have no gradients.*mc\.function\(se"
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        transform(mean)(X[None])
