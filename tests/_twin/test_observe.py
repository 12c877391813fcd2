"""One observed run: which module differs from eval mode, and what it draws."""

from __future__ import annotations

import threading
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._twin.observe import observe

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def inputs() -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (X.clone(),), {}


class Scale(nn.Module):
    """Returns something else while training."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if self.training else x


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise KeyError("labels")
        return x


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.get_buffer("steps").add_(1)
        return x


def test_modules_are_judged_by_themselves() -> None:
    model = nn.Sequential(nn.Linear(8, 8), Scale(), nn.Linear(8, 8), Writes()).eval()
    plain = observe(model, inputs)
    seen = observe(model, inputs, {"1", "3"}, recorded=plain, corrects=True)
    assert seen.differs == {"1": "its output differs"}
    assert seen.written == {"3": {"steps"}}
    assert seen.same_output(plain)
    assert not observe(model, inputs, {"1"}, recorded=plain).same_output(plain)
    assert observe(model, inputs, recorded=plain).same_output(plain)
    assert float(model.get_buffer("3.steps")) == 0


def test_an_exception_is_blamed_on_the_flag() -> None:
    model = nn.Sequential(nn.Linear(8, 8), Fails())
    seen = observe(model, inputs, {"0", "1"}, recorded=observe(model, inputs), corrects=True)
    assert seen.differs == {"1": "it raises KeyError: 'labels'"}
    assert isinstance(seen.error, KeyError)


def test_numbers_drawn_outside_of_operators_show() -> None:
    class Draws(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            import random

            return x + random.random()

    assert observe(Draws(), inputs).outside
    assert not observe(nn.Linear(8, 8), inputs).outside


class Seeds(nn.Module):
    """Seeds the generator of torch, and so moves it, but draws nothing."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            torch.manual_seed(5)
        return x


class DrawsInAThread(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            thread = threading.Thread(target=lambda: torch.rand(3))
            thread.start()
            thread.join()
        return x


def test_hidden_draws_are_told_from_seeds() -> None:
    model = nn.Sequential(Seeds(), DrawsInAThread())
    plain = observe(model, inputs)
    seen = observe(model, inputs, {"0", "1"}, recorded=plain, finds_hidden=True)
    assert seen.hidden == {"1"}


def test_sites_bear_the_names_and_shapes_of_a_live_pass() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.gate = nn.Dropout(0.5), Gate()

        def forward(self, x: Tensor) -> Tensor:
            x = F.dropout(self.drop(self.drop(x)), 0.1)
            return self.gate(x)

    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            p = 0.3 if self.training else 0.0
            return F.scaled_dot_product_attention(x, x, x, dropout_p=p)

    x = torch.randn(3, 4, 6)
    model = Model().eval()
    plain = observe(model, lambda: ((x,), {}))
    seen = observe(model, lambda: ((x,), {}), {"gate"})
    sites = mcdrop.wrap(model).sites(x)
    named = [(site.name, site.p, site.shape) for site in sites]
    assert [(site.name, site.p, site.shape) for site in seen.sites] == named
    assert [(site.name, site.p, site.shape) for site in plain.sites] == named[:-1]
    assert named[-1] == ("gate:attention", 0.3, (3, 4, 4))
