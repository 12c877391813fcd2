"""Which numbers of a row are differentiated, by one backward pass each.

Class probabilities do not change where a number is added to all scores of a row. So the scores of
classes are taken less their mean z = sum w_c s_c over the classes that are linearized, weighted by
their probabilities w at open masks: of K such deviations d_c = s_c - z, K - 1 tell the last, as
sum w_c d_c = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Self

__all__ = ["Differentiated"]


@dataclass(frozen=True)
class Differentiated:
    """The numbers of every row that are differentiated.

    Attributes:
        values: With their graph, (n, numbers).
        chosen: Numbers of the outputs that are linearized, (n, outputs), the largest of every row
            first; None for all of them.
        weights: Of the outputs that are linearized, in their mean that is taken from them, (n,
            outputs); None where none is.
    """

    values: Tensor
    chosen: Tensor | None = None
    weights: Tensor | None = None

    @classmethod
    def of(cls, output: Tensor, most: int | None, *, exclusive: bool) -> Self:
        """Choose from an output, (n, ...), with its graph.

        Args:
            output: The output.
            most: Of more outputs than that, only the largest of every row are linearized.
            exclusive: Whether they are scores of classes, up to a number of every row.
        """
        values = output.reshape(len(output), -1)
        outputs = values.shape[1]
        if not exclusive and (most is None or outputs <= most):
            return cls(values)
        chosen = values.detach().topk(outputs if most is None else min(most, outputs), dim=1)
        values = values.gather(1, chosen.indices)
        if not exclusive:
            return cls(values, chosen.indices)
        weights = chosen.values.softmax(dim=1)
        mean = (values * weights).sum(dim=1, keepdim=True)
        return cls(values[:, 1:] - mean, chosen.indices, weights)

    def of_outputs(self, slopes: Tensor) -> Tensor:
        """Return the slopes of the outputs from those of the numbers, (n, units, numbers)."""
        if self.weights is None:
            return slopes
        # The first weight is the largest.
        weights = self.weights.to(slopes).nan_to_num_().unsqueeze(1)
        rest = (slopes * weights[..., 1:]).sum(dim=2, keepdim=True)
        return torch.cat([rest / -weights[..., :1].clamp_min(1 / weights.shape[2]), slopes], dim=2)

    def placed(self, values: Tensor, outputs: int) -> Tensor:
        """Give every output its value, (..., n, outputs), or 0, from those that are linearized."""
        if self.chosen is None:
            return values
        every = values.new_zeros((*values.shape[:-1], outputs))
        return every.scatter_(-1, self.chosen.expand_as(values), values)
