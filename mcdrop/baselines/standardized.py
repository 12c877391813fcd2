"""Rows of a table as a network is trained on them, and networks in units of the data again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mcdrop.baselines.table import Matrix, feature_matrix, label_vector, target_matrix
from mcdrop.errors import RangeError

__all__ = ["InUnitsOfData", "Table", "standardized_table"]

_FEWEST_ROWS = 10


@dataclass(frozen=True)
class Table:
    """Standardized rows with what undoes it."""

    X: Tensor
    y: Tensor
    features: Matrix
    targets: Any
    center: Matrix
    scale: Matrix
    target_center: Matrix
    target_scale: Matrix
    target_shape: tuple[int, ...]
    n_outputs: int
    heteroscedastic: bool


class InUnitsOfData(nn.Module):
    """A network trained on standardized numbers, as a function of the numbers themselves."""

    def __init__(self, network: nn.Module, table: Table) -> None:
        super().__init__()
        self.network = network
        self._heteroscedastic = table.heteroscedastic
        self.register_buffer("center", torch.from_numpy(table.center))
        self.register_buffer("scale", torch.from_numpy(table.scale))
        self.register_buffer("target_center", torch.from_numpy(table.target_center))
        self.register_buffer("target_scale", torch.from_numpy(table.target_scale))

    def forward(self, X: Tensor) -> Any:
        """Return means, pairs of means and log variances, or logits; float64."""
        # float64 up to here: float32 cannot tell large features that differ little.
        standardized = (X.double() - self.get_buffer("center")) / self.get_buffer("scale")
        outputs = self.network(standardized.float()).double()
        center, scale = self.get_buffer("target_center"), self.get_buffer("target_scale")
        if not self._heteroscedastic:
            return outputs * scale + center
        mean, log_variance = outputs.chunk(2, dim=-1)
        return mean * scale + center, log_variance + 2 * scale.log()


def standardized_table(function: str, task: str, X: Any, y: Any) -> Table:
    """Check and standardize the rows."""
    features = feature_matrix(function, X)
    if len(features) < _FEWEST_ROWS:
        raise RangeError.of(
            function,
            "X",
            f"hold at least {_FEWEST_ROWS} rows",
            len(features),
            "Use Ridge or BayesianRidge for so few rows",
        )
    center, scale = features.mean(axis=0), _spread(features)
    standardized = torch.from_numpy((features - center) / scale).float()
    rest: dict[str, Any] = {"features": features, "center": center, "scale": scale}
    if task == "classification":
        labels = label_vector(function, y, len(features))
        n_outputs = int(labels.max()) + 1
        one, zero = np.ones(n_outputs), np.zeros(n_outputs)
        return Table(
            X=standardized, y=torch.from_numpy(labels), targets=labels, target_center=zero,
            target_scale=one, target_shape=(), n_outputs=n_outputs, heteroscedastic=False, **rest,
        )  # fmt: skip
    target = target_matrix(function, y, len(features))
    columns = target.reshape(len(target), -1)
    target_center, target_scale = columns.mean(axis=0), _spread(columns)
    hetero = task == "heteroscedastic"
    return Table(
        X=standardized,
        y=torch.from_numpy((columns - target_center) / target_scale).float(),
        targets=target,
        target_center=target_center,
        target_scale=target_scale,
        target_shape=target.shape[1:],
        n_outputs=columns.shape[1] * (2 if hetero else 1),
        heteroscedastic=hetero,
        **rest,
    )


def _spread(values: Matrix) -> Matrix:
    """Return standard deviations; 1 for constant columns, up to rounding."""
    spread = values.std(axis=0)
    # The mean of many equal numbers is off by more than their last digit.
    constant = (np.ptp(values, axis=0) == 0) | (spread <= 1e-12 * np.abs(values).max(axis=0))
    return np.where(constant, 1.0, spread)
