"""Per-pixel predictions: one random pixel of each image, so that rows are independent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop.prediction import ClassificationPrediction
from mcdrop.prediction.targets import aligned_targets

__all__ = ["one_pixel_per_image"]


def one_pixel_per_image(
    predictions: Mapping[str, ClassificationPrediction], y: Any, seed: int
) -> tuple[dict[str, ClassificationPrediction], Any, tuple[str, ...]]:
    """Return predictions (N, C) and labels (N,), and a remark if they were per pixel.

    The same pixel of an image is taken from every method. If predictions are calibrated, the labels
    of these pixels are independent draws, however pixels of one image depend on each other: every
    test of the page keeps its level.
    """
    first = next(iter(predictions.values()))
    if first.probs.ndim < 3:
        return dict(predictions), y, ()
    labels = aligned_targets("calibration_report", y, first.probs[:, 0], index=first.index)
    n_rows, size = len(first), first.probs[0, 0].numel()
    draw = np.random.default_rng([seed, 7])
    place = torch.from_numpy(draw.integers(0, size, size=n_rows))
    chosen = {name: _at(prediction, place) for name, prediction in predictions.items()}
    flat = labels.reshape(n_rows, size)
    remark = (
        f"One random pixel of each of the {n_rows} images is judged, as pixels of one image depend "
        f"on each other: {size} pixels of it are not {size} rows. More images tell more."
    )
    return chosen, flat.gather(1, place.to(flat.device)[:, None])[:, 0], (remark,)


def _at(prediction: ClassificationPrediction, place: Tensor) -> ClassificationPrediction:
    """Return the prediction at one pixel of each image."""
    n_rows, n_classes = prediction.probs.shape[:2]

    def chosen(name: str, values: Tensor) -> Tensor:
        if name == "passes_per_row":
            return values
        lead: tuple[int, ...] = (n_rows,)
        if name == "samples":
            lead = (len(values), n_rows, n_classes)
        elif values.ndim == prediction.probs.ndim:
            lead = (n_rows, n_classes)
        flat = values.reshape(*lead, -1)
        shape = [1] * flat.ndim
        shape[1 if name == "samples" else 0] = n_rows
        index = place.to(values.device).reshape(shape).expand(*lead, 1)
        return flat.gather(-1, index)[..., 0]

    return prediction._map(chosen)
