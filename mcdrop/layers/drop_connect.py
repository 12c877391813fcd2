"""DropConnect: a linear layer that drops weights rather than units."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.checks import checked_rate
from mcdrop.errors import UnsupportedError

__all__ = ["DropConnectLinear"]


class DropConnectLinear(nn.Linear):
    """Linear layer that drops each of its weights with probability p.

    y = (W * M / (1 - p)) x + b, with M_ji ~ Bernoulli(1 - p). One mask is drawn per forward call,
    so all rows of a call (and all time steps) see the same weights: a call is one function. The
    bias is kept. In `eval()` it is a plain `torch.nn.Linear`, with the same state dict.

    For one row, Var(y_j) = p / (1 - p) * sum_i (W_ji x_i)^2, and outputs are independent.

    Args:
        in_features: Size of the last dimension of the input.
        out_features: Size of the last dimension of the output.
        p: Probability that a weight is dropped, in [0, 1).
        bias: Whether to add a bias.
        device: As for `torch.nn.Linear`.
        dtype: As for `torch.nn.Linear`.

    Raises:
        RangeError: If `p` lies outside [0, 1).

    Source:
        Wan et al. (2013), "Regularization of neural networks using DropConnect", who draw a mask
        per training example and do not scale survivors; as an approximate posterior: Mobiny et
        al. (2021), "DropConnect is effective in modeling uncertainty of Bayesian deep networks".

    Example:
        >>> layer = DropConnectLinear(3, 2, p=0.5, bias=False)
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> layer.eval()(torch.tensor([[1.0, 2.0, 4.0]]))
        tensor([[7., 7.]], grad_fn=<MmBackward0>)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        p: float,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.p = checked_rate("DropConnectLinear", p)
        super().__init__(in_features, out_features, bias, device, dtype)

    @classmethod
    def from_linear(cls, linear: nn.Linear, p: float) -> DropConnectLinear:
        """Make the layer from a trained one, sharing its parameters.

        Args:
            linear: The layer whose weights are to be dropped; it is only read.
            p: Probability that a weight is dropped, in [0, 1).

        Returns:
            A layer with the same parameters (not copies) and the same training flag.

        Raises:
            RangeError: If `p` lies outside [0, 1).
            UnsupportedError: If `linear` is not a `torch.nn.Linear`.

        Example:
            >>> linear = nn.Linear(3, 2)
            >>> DropConnectLinear.from_linear(linear, p=0.1).weight is linear.weight
            True
        """
        if not isinstance(linear, nn.Linear):
            raise UnsupportedError.of(
                "DropConnectLinear.from_linear",
                "linear",
                "be a torch.nn.Linear",
                type(linear).__name__,
                "Pass the layer itself",
            )
        # Parameters on the meta device cost nothing and draw no random numbers.
        has_bias = linear.bias is not None
        layer = cls(linear.in_features, linear.out_features, p, has_bias, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        return layer.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's own name)
        """Apply the layer.

        Args:
            input: Shape (..., in_features).

        Returns:
            Shape (..., out_features).
        """
        # The mask has one row of its own, so that no dimension of the weight is taken for rows.
        weight = F.dropout(self.weight.unsqueeze(0), self.p, self.training).squeeze(0)
        return F.linear(input, weight, self.bias)

    def extra_repr(self) -> str:
        """Name the sizes and the rate."""
        return f"{super().extra_repr()}, p={self.p}"
