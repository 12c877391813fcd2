"""Concrete dropout: the rate is learned with the weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.checks import checked_positive, require_count, require_unit
from mcdrop.errors import NoDropoutError, UnsupportedError

__all__ = ["ConcreteDropout", "concrete_regularizer"]

_Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class ConcreteDropout(nn.Module):
    """A layer with dropout of its inputs, whose rate is learned.

    In `train()` each input feature (each channel, before a convolution) is multiplied by
    (1 - z) / (1 - p), with z a concrete relaxation of a Bernoulli(p) variable,

        z = sigmoid((logit(p) + logit(u)) / temperature),  u ~ Uniform(0, 1),

    so that gradients reach p. When mcdrop samples, masks are hard: Bernoulli at the learned rate.
    In plain `eval()` it is the layer alone. Add `concrete_regularizer` to the training loss:
    without it nothing holds the rate above zero.

    Args:
        layer: The layer whose inputs are dropped: `nn.Linear`, `nn.Conv1d`, `Conv2d` or `Conv3d`.
        p_init: Rate to start from, in (0, 1).
        temperature: Of the relaxation, > 0; the smaller, the closer to hard masks and the noisier
            the gradient.

    Attributes:
        layer: The layer.
        rate_logit: Logit of the rate, a parameter; keep it out of weight decay.

    Raises:
        RangeError: If `p_init` or `temperature` lies outside its range.
        UnsupportedError: If `layer` is of another type.

    Source:
        Gal, Hron & Kendall (2017), "Concrete dropout", whose experiments use temperature 0.1.

    Example:
        >>> layer = ConcreteDropout(nn.Linear(10, 50), p_init=0.2)
        >>> round(layer.p.item(), 6)
        0.2
    """

    def __init__(self, layer: _Layer, p_init: float = 0.1, temperature: float = 0.1) -> None:
        super().__init__()
        if not isinstance(layer, _Layer):
            raise UnsupportedError.of(
                "ConcreteDropout",
                "layer",
                "be nn.Linear, nn.Conv1d, nn.Conv2d or nn.Conv3d",
                type(layer).__name__,
                "Wrap each such layer of the model by itself",
            )
        require_unit("ConcreteDropout", "p_init", p_init, remedy="Start from 0.1")
        self.layer = layer
        self.temperature = checked_positive("ConcreteDropout", "temperature", temperature)
        logit = math.log(p_init) - math.log1p(-p_init)
        self.rate_logit = nn.Parameter(layer.weight.detach().new_tensor(logit))

    @property
    def p(self) -> Tensor:
        """The learned rate, a scalar tensor that gradients flow through."""
        return torch.sigmoid(self.rate_logit)

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of the input, then apply the layer.

        Args:
            x: What the layer takes: (..., in_features), or (N, in_channels, ...).

        Returns:
            What the layer returns.
        """
        # Before a convolution whole channels are dropped: one value for all positions.
        n_spatial = 0 if isinstance(self.layer, nn.Linear) else len(self.layer.kernel_size)
        shape = (*x.shape[: x.ndim - n_spatial], *(1 for _ in range(n_spatial)))
        if self.training:
            mask = self._relaxed(shape).to(x.dtype)
        else:
            mask = F.dropout(x.new_ones(shape), self.p.item(), self.training)
        dropped: Tensor = self.layer(x * mask)
        return dropped

    def regularizer(
        self, n_rows: int, *, length_scale: float = 1.0, precision: float = 1.0
    ) -> Tensor:
        """Divergence of the approximate posterior from the prior, per row, for the training loss.

        With prior N(0, 1 / length_scale^2) of each weight, W the weights as stored (survivors are
        scaled by 1 / (1 - p) here; in the paper's notation its M is W / (1 - p)) and K the number
        of input features or channels, up to a constant,

            (length_scale^2 |W|^2 / (2 (1 - p)) - K H(p)) / (precision * n_rows),
            H(p) = -p log p - (1 - p) log(1 - p).

        It belongs to a loss that is the mean over rows of the negative log-likelihood in nats,
        divided by `precision`: cross-entropy with precision 1, half the squared error with the
        noise precision tau. For `nn.MSELoss` (twice that) add twice the regularizer. Do not add
        weight decay on W as well; biases are not regularized.

        Args:
            n_rows: Rows of the training set (not of the batch), N >= 1.
            length_scale: Prior length scale, > 0, in units of one over a weight.
            precision: Noise precision tau, > 0: one over the variance of the observation noise.

        Returns:
            A scalar, nats over `precision`; it may be negative.

        Raises:
            RangeError: If an argument lies outside its range.

        Source:
            Gal, Hron & Kendall (2017), sections 2 and 3.

        Example:
            >>> layer = ConcreteDropout(nn.Linear(2, 1, bias=False), p_init=0.5)
            >>> _ = torch.nn.init.ones_(layer.layer.weight)
            >>> round(layer.regularizer(n_rows=10).item(), 6)  # (2 - 2 log 2) / 10
            0.061371
        """
        require_count("regularizer", "n_rows", n_rows)
        scale = checked_positive("regularizer", "length_scale", length_scale)
        tau = checked_positive("regularizer", "precision", precision)
        layer = self.layer
        n_features = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        # log p and log(1 - p) from the logit stay finite where p rounds to 0 or 1.
        log_drop, log_keep = F.logsigmoid(self.rate_logit), F.logsigmoid(-self.rate_logit)
        entropy = -log_drop.exp() * log_drop - log_keep.exp() * log_keep
        squares = layer.weight.square().sum() / log_keep.exp()
        divergence = scale**2 / 2 * squares - n_features * entropy
        return divergence / (tau * n_rows)

    def extra_repr(self) -> str:
        """Name the learned rate and the temperature."""
        return f"p={self.p.item():.4g}, temperature={self.temperature}"

    def _relaxed(self, shape: tuple[int, ...]) -> Tensor:
        """Draw the relaxed multipliers (1 - z) / (1 - p)."""
        like = self.rate_logit
        noise = torch.rand(shape, dtype=like.dtype, device=like.device).logit()
        keep = torch.sigmoid(-(like + noise) / self.temperature)
        return keep / torch.sigmoid(-like)


def concrete_regularizer(
    model: nn.Module, n_rows: int, *, length_scale: float = 1.0, precision: float = 1.0
) -> Tensor:
    """Sum of the regularizers of all `ConcreteDropout` layers of a model, for the training loss.

    Args:
        model: Any module; a layer that is used several times counts once.
        n_rows: As for `ConcreteDropout.regularizer`.
        length_scale: As for `ConcreteDropout.regularizer`.
        precision: As for `ConcreteDropout.regularizer`.

    Returns:
        A scalar to add to the mean loss per row.

    Raises:
        NoDropoutError: If the model has no such layer.
        RangeError: If an argument lies outside its range.

    Source:
        Gal, Hron & Kendall (2017), sections 2 and 3.

    Example:
        >>> net = nn.Sequential(ConcreteDropout(nn.Linear(4, 8)), nn.ReLU(),
        ...                     ConcreteDropout(nn.Linear(8, 1)))
        >>> x, y = torch.zeros(20, 4), torch.zeros(20, 1)
        >>> loss = (net(x) - y).square().mean() / 2 + concrete_regularizer(net, n_rows=20)
        >>> loss.backward()
    """
    layers = [module for module in model.modules() if isinstance(module, ConcreteDropout)]
    if not layers:
        raise NoDropoutError.of(
            "concrete_regularizer",
            "model",
            "have a ConcreteDropout layer",
            f"{type(model).__name__} without any",
            "Wrap its linear and convolution layers in mcdrop.layers.ConcreteDropout",
        )
    terms = [
        layer.regularizer(n_rows, length_scale=length_scale, precision=precision)
        for layer in layers
    ]
    return torch.stack(terms).sum()
