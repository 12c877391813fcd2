"""Wrap a model and predict, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, overload

import torch
from torch import nn
from typing_extensions import Unpack

from mcdrop._engine.record import Masks
from mcdrop._tasks.settings import ClassificationTask, Options, RegressionTask, Task
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction
from mcdrop.wrapper import wrap

__all__ = ["predict_with_uncertainty"]


@overload
def predict_with_uncertainty(
    model: nn.Module | torch.export.ExportedProgram,
    inputs: Any,
    *,
    p: float | Mapping[str, float] | None = None,
    masks: Masks = "independent",
    stochastic: Iterable[type[nn.Module] | str] = (),
    stratified: bool = True,
    task: RegressionTask | None = None,
    **options: Unpack[Options],
) -> RegressionPrediction: ...


@overload
def predict_with_uncertainty(
    model: nn.Module | torch.export.ExportedProgram,
    inputs: Any,
    *,
    p: float | Mapping[str, float] | None = None,
    masks: Masks = "independent",
    stochastic: Iterable[type[nn.Module] | str] = (),
    stratified: bool = True,
    task: ClassificationTask,
    **options: Unpack[Options],
) -> ClassificationPrediction: ...


def predict_with_uncertainty(
    model: nn.Module | torch.export.ExportedProgram,
    inputs: Any,
    *,
    p: float | Mapping[str, float] | None = None,
    masks: Masks = "independent",
    stochastic: Iterable[type[nn.Module] | str] = (),
    stratified: bool = True,
    task: Task | None = None,
    **options: Unpack[Options],
) -> RegressionPrediction | ClassificationPrediction:
    """Wrap a model and predict in one call.

    Args:
        model: As for `wrap`.
        inputs: As for `MCDropout.predict_with_uncertainty`.
        p: As for `wrap`.
        masks: As for `wrap`.
        stochastic: As for `wrap`.
        stratified: As for `wrap`.
        task: As for `MCDropout.predict_with_uncertainty`.
        **options: As for `MCDropout.predict_with_uncertainty`.

    Returns:
        What `MCDropout.predict_with_uncertainty` returns.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 2))
        >>> predict_with_uncertainty(net, torch.ones(4, 3), task="classification").probs.shape
        torch.Size([4, 2])
    """
    mc = wrap(model, p, masks, stochastic, stratified=stratified)
    if task is None or task == "regression" or task == "heteroscedastic":  # noqa: PLR1714 - narrows the type
        return mc.predict_with_uncertainty(inputs, task=task, **options)
    return mc.predict_with_uncertainty(inputs, task=task, **options)
