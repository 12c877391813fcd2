"""Compiled control flow is refused by name; everything else passes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.control_flow import naming_control_flow

X = torch.ones(3, 4)


class Branches(nn.Module):
    """Branches with torch.cond, before its dropout, after it, or around it."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.drop, self.where = nn.Dropout(0.5), where

    def forward(self, x: Tensor) -> Tensor:
        double: Callable[[Tensor], Tensor] = lambda h: 2 * h  # noqa: E731
        if self.where == "before":
            x = torch.cond(x.sum() > 0, double, double, (x,))
        h: Tensor = self.drop(x)
        return torch.cond(h.sum() > 0, double, double, (h,)) if self.where == "after" else h


OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6)


@pytest.mark.skipif(OLD, reason="torch.cond of this torch is not compiled when it is called")
@pytest.mark.parametrize("where", ["before", "after"])
def test_compiled_branches_are_refused_by_name(where: str) -> None:
    text = r"expected `model` to branch and loop in Python, but got torch\.cond, .* Write `if`"
    mc = mcdrop.wrap(Branches(where))
    predict = partial(mc.predict_with_uncertainty, task="regression")
    for call in (predict, mc.sample, mc):
        with pytest.raises(mcdrop.UnsupportedError, match=text):
            call(X)


def test_other_errors_pass() -> None:
    for error in (RuntimeError("of the model's"), KeyError("x")):
        with pytest.raises(type(error)) as caught, naming_control_flow("sample"):
            raise error
        assert caught.value is error


def test_a_sampler_that_is_traced_is_refused() -> None:
    mc = mcdrop.wrap(nn.Dropout(0.5))
    text = r"outside torch\.export and torch\.jit, which would keep one mask or none.*Export"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(mcdrop.UnsupportedError, match=text):
            torch.jit.trace(mc, X)
