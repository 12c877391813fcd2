"""Stochastic depth: whole residual branches are dropped, row by row."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.checks import checked_rate

__all__ = ["StochasticDepth"]


class StochasticDepth(nn.Module):
    """Drops the whole residual branch of a row; surviving branches are scaled by 1 / (1 - p).

    Use it on the branch, before the sum: ``x + drop(branch(x))``. Rows are independent. Huang et
    al. scale at test time instead, which is the same up to a factor 1 - p in the branch's last
    weights, and let p grow with depth: p_l = l / L * p_L.

    Args:
        p: Probability that the branch of a row is dropped, in [0, 1).

    Raises:
        RangeError: If `p` lies outside [0, 1).

    Source:
        Huang et al. (2016), "Deep networks with stochastic depth"; scaled survivors as in "drop
        path" of Larsson, Maire & Shakhnarovich (2017) and its implementations.

    Example:
        >>> import torch
        >>> branch = torch.ones(6, 2, 4, 4)
        >>> kept = StochasticDepth(p=0.5)(branch).flatten(1)
        >>> bool((kept == kept[:, :1]).all()), bool(((kept == 0) | (kept == 2)).all())
        (True, True)
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = checked_rate("StochasticDepth", p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop rows.

        Args:
            x: Output of the residual branch, (N, ...).

        Returns:
            A tensor like `x`.
        """
        one_per_row = (*x.shape[:1], *(1 for _ in x.shape[1:]))
        return x * F.dropout(x.new_ones(one_per_row), self.p, self.training)

    def extra_repr(self) -> str:
        """Name the rate."""
        return f"p={self.p}"
