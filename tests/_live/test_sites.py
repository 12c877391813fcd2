"""Sites as a user meets them: in order, with the shape of one pass, and whether they fire."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._live.sites import DropoutSite
from tests.passes import draw

X = torch.ones(4, 6)


class Branches(nn.Module):
    """Two uses of one dropout, and one that keeps everything."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.never = nn.Dropout(0.25), nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.drop(x)[:, :2]) + self.never(x)[:, :2]


EXPECTED = (
    DropoutSite("drop", "dropout", 0.25, 0, (4, 6), True),
    DropoutSite("drop#2", "dropout", 0.25, 1, (4, 2), True),
    DropoutSite("never", "dropout", 0.0, 2, (4, 6), False),
)


def test_sites_come_in_the_order_of_the_calls() -> None:
    found = mcdrop.wrap(Branches()).sites(X)
    assert tuple(dataclasses.replace(site, flops_before=None) for site in found) == EXPECTED


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_a_run_names_the_same_sites_with_the_shapes_of_one_pass(strategy: str) -> None:
    _, run = draw(Branches(), X, 8, strategy)  # type: ignore[arg-type]
    assert run.sites == EXPECTED


def test_a_site_says_the_rate_in_force() -> None:
    rates = {"drop": 0.5, "drop#2": 0.0, "never": 0.1}
    found = mcdrop.wrap(Branches(), p=rates).sites(X)
    assert [(site.p, site.fired) for site in found] == [(0.5, True), (0.0, False), (0.1, True)]


def test_sites_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXPECTED[0].p = 0.1  # type: ignore[misc]
