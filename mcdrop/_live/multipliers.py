"""The network as a function of its masks: multipliers whose gradients are its slopes.

Dropout multiplies a unit by m = keep / (1 - p), of mean 1. With a multiplier of 1 in place of every
m the network is seen at its mean mask, and the gradients there make it linear:
f(m) = f(1) + g . (m - 1) + higher orders.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mcdrop._masks.mask import DropoutMask

__all__ = ["Multiplied", "Multipliers"]


@dataclass(frozen=True)
class Multiplied:
    """The multipliers of one dropout call.

    Attributes:
        mask: The mask that they stand for.
        rate: Rate that it realizes.
        ones: The multipliers, one per unit, of the shape of the mask.
    """

    mask: DropoutMask
    rate: float
    ones: Tensor


@dataclass
class Multipliers:
    """Multiplies by 1 where a pass would multiply by its mask.

    Attributes:
        sites: What has been multiplied so far, in order.
    """

    sites: list[Multiplied] = field(default_factory=list)

    def times(self, x: Tensor, mask: DropoutMask, rate: float) -> Tensor:
        """Return `x`, depending on multipliers of its own.

        Args:
            x: What the dropout call was given.
            mask: What a pass would multiply it by.
            rate: Rate that the mask realizes.
        """
        ones = torch.ones(mask.shape, dtype=x.dtype, device=x.device, requires_grad=True)
        self.sites.append(Multiplied(mask, rate, ones))
        return x * ones
