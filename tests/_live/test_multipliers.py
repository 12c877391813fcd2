"""Multipliers leave values as they are and make the output depend on every unit's mask."""

from __future__ import annotations

import torch

from mcdrop._live.multipliers import Multipliers
from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.source import MaskSource, Span


def test_values_stay_and_gradients_are_those_of_the_mask() -> None:
    source = MaskSource(0, torch.device("cpu"))
    # One multiplier per channel of (2, 3, 4).
    mask = DropoutMask(source, 0.25, (2, 3, 1), 5, Span(), stacked=False, rows=None)
    x = torch.arange(24.0).view(2, 3, 4)
    multipliers = Multipliers()
    with torch.enable_grad():
        out = multipliers.times(x, mask, 0.25)
        (site,) = multipliers.sites
        (slope,) = torch.autograd.grad(out.square().sum() / 2, site.ones)
    assert torch.equal(out, x)
    assert (site.mask, site.rate) == (mask, 0.25)
    # d/dm sum (m x)^2 / 2 = sum x^2 at m = 1.
    torch.testing.assert_close(slope, x.square().sum(dim=2, keepdim=True))
