"""Locked (variational) dropout: one mask for all time steps of a row."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.checks import checked_rate
from mcdrop.errors import ShapeError

__all__ = ["LockedDropout"]


class LockedDropout(nn.Module):
    """Dropout of sequences that drops the same features at every time step.

    Rows (sequences) and features are independent. Put it before and after recurrent layers; it
    does not reach the connection from one hidden state to the next, for which a mask would have
    to be applied inside the recurrence.

    Args:
        p: Probability that a feature of a row is dropped, in [0, 1).
        batch_first: Whether inputs are (N, time, ...) rather than (time, N, ...). Unlike
            `torch.nn.LSTM` the default is True: everywhere in mcdrop rows come first.

    Raises:
        RangeError: If `p` lies outside [0, 1).

    Source:
        Gal & Ghahramani (2016b), "A theoretically grounded application of dropout in recurrent
        neural networks", section 4; the name is that of the code of Merity et al. (2018).

    Example:
        >>> import torch
        >>> drop = LockedDropout(p=0.5)
        >>> y = drop(torch.ones(4, 10, 3))
        >>> bool((y == y[:, :1]).all())
        True
    """

    def __init__(self, p: float, batch_first: bool = True) -> None:
        super().__init__()
        self.p = checked_rate("LockedDropout", p)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        """Drop features.

        Args:
            x: Sequences, (N, time, ...) or, with ``batch_first=False``, (time, N, ...); at least
                three dimensions. A packed sequence has to be padded first.

        Returns:
            A tensor like `x`.

        Raises:
            ShapeError: If `x` is not a tensor of at least three dimensions.
        """
        if not isinstance(x, Tensor) or x.ndim < 3:
            order = "(N, time, features)" if self.batch_first else "(time, N, features)"
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ShapeError.of(
                "LockedDropout",
                "x",
                f"have shape {order}",
                found,
                "Add a dimension for rows, or pad a packed sequence",
            )
        time = 1 if self.batch_first else 0
        n_rows, *features = (size for dim, size in enumerate(x.shape) if dim != time)
        # Rows come first in the mask, whatever their place in the input.
        mask = F.dropout(x.new_ones(n_rows, 1, *features), self.p, self.training)
        return x * (mask if self.batch_first else mask.transpose(0, 1))

    def extra_repr(self) -> str:
        """Name the rate and the layout."""
        return f"p={self.p}, batch_first={self.batch_first}"
