"""Maps of one image's pixels: what was predicted, where it is unsure, where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mcdrop.checks import require_installed
from mcdrop.errors import RangeError, ShapeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction
from mcdrop.prediction.targets import class_labels, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PixelMapDisplay"]

_FUNCTION = "PixelMapDisplay.from_predictions"


class PixelMapDisplay:
    """Maps of one image of a segmentation, side by side.

    Attributes:
        maps: The values by title, (H, W), or the image, (H, W, 3): "image" if it was given,
            "predicted class", "predictive entropy", "mutual information" where there are passes,
            and "wrong pixels" where the targets were given. Entropies in nats.
        n_classes: Number of classes, C.
        axes_: Axes that were drawn on; set by `plot`.
        figure_: Figure of these axes; set by `plot`.
    """

    axes_: tuple[Axes, ...]
    figure_: Figure | None

    def __init__(self, maps: dict[str, Any], n_classes: int) -> None:
        self.maps = maps
        self.n_classes = n_classes

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        prediction: ClassificationPrediction,
        *,
        row: int = 0,
        image: Any = None,
        axes: Sequence[Axes] | None = None,
    ) -> PixelMapDisplay:
        """Take the maps of one row of a prediction and draw them.

        Args:
            y_true: Labels of all rows, (N, H, W); None if they are unknown.
            prediction: Class probabilities per pixel, (N, C, H, W).
            row: Which image.
            image: The image itself: (H, W), (C, H, W) or (H, W, C) with 1 or 3 channels.
            axes: One for each map; a new figure of pyplot by default.

        Returns:
            The display, with `axes_` and `figure_` set.

        Raises:
            UnsupportedError: If the prediction is not per pixel, or matplotlib is not installed.
            RangeError: If there is no such row, or a label is no class index.
            ShapeError: If `y_true`, `image` or `axes` do not fit.

        Example:
            >>> import torch
            >>> probs = torch.rand(2, 3, 4, 5).softmax(dim=1)
            >>> p = ClassificationPrediction.from_probs(probs)
            >>> display = PixelMapDisplay.from_predictions(None, p, row=1)
            >>> list(display.maps)
            ['predicted class', 'predictive entropy']
        """
        require_installed(_FUNCTION, "matplotlib", "report")
        if not isinstance(prediction, ClassificationPrediction) or prediction.probs.ndim != 4:
            raise UnsupportedError.of(
                _FUNCTION,
                "prediction",
                "hold class probabilities per pixel, (N, C, H, W)",
                repr(prediction),
                "Pass the prediction of a segmentation",
            )
        n_rows, n_classes = prediction.probs.shape[:2]
        if not -n_rows <= row < n_rows:
            raise RangeError.of(
                _FUNCTION, "row", f"be the number of one of {n_rows} rows", row, "Count from 0"
            )
        maps: dict[str, Any] = {}
        if image is not None:
            maps["image"] = _picture(image)
        maps["predicted class"] = _array(prediction.labels[row])
        maps["predictive entropy"] = _array(prediction.predictive_entropy[row])
        if prediction.n_samples > 1:
            maps["mutual information"] = _array(prediction.mutual_information[row])
        if y_true is not None:
            y = class_labels(
                _FUNCTION, y_true, prediction.probs, argument="y_true", index=prediction.index
            )
            maps["wrong pixels"] = _array(prediction.labels[row] != y[row])
        return cls(maps, n_classes).plot(axes)

    def plot(self, axes: Sequence[Axes] | None = None) -> PixelMapDisplay:
        """Draw every map on axes of its own.

        Args:
            axes: One for each map; a new figure of pyplot by default.

        Raises:
            ShapeError: If there are fewer axes than maps.
            UnsupportedError: If matplotlib is not installed.
        """
        require_installed("PixelMapDisplay.plot", "matplotlib", "report")
        if axes is None:
            import matplotlib.pyplot as plt

            size = (2.4 * len(self.maps), 2.9)
            _, made = plt.subplots(1, len(self.maps), figsize=size, layout="constrained")
            axes = list(np.atleast_1d(made))
        drawn = tuple(np.ravel(np.asarray(axes, dtype=object)))
        if len(drawn) < len(self.maps):
            raise ShapeError.of(
                "PixelMapDisplay.plot",
                "axes",
                f"hold one for each of {len(self.maps)} maps: {', '.join(self.maps)}",
                f"{len(drawn)} axes",
                "Pass plt.subplots(1, n)[1]",
            )
        for ax, (title, values) in zip(drawn, self.maps.items(), strict=False):
            ax.imshow(values, interpolation="nearest", **self._look(title))
            ax.set_title(title)
            ax.set_axis_off()
        self.axes_, self.figure_ = drawn, drawn[0].get_figure(root=True)
        return self

    def _look(self, title: str) -> dict[str, Any]:
        """Return colors and span of a map; all images share the span of the entropies."""
        if title == "predicted class":
            return {"cmap": "viridis", "vmin": 0, "vmax": self.n_classes - 1}
        if title in ("predictive entropy", "mutual information"):
            return {"cmap": "magma", "vmin": 0.0, "vmax": math.log(max(self.n_classes, 2))}
        if title == "wrong pixels":
            return {"cmap": "gray", "vmin": 0, "vmax": 1}
        return {"cmap": "gray"}

    def __repr__(self) -> str:
        """Return the names of the maps."""
        return f"PixelMapDisplay({', '.join(self.maps)})"


def _array(values: Any) -> Any:
    return values.detach().cpu().numpy()


def _picture(image: Any) -> Any:
    """Return an image as (H, W) or (H, W, 3), scaled to [0, 1]."""
    values = numbers(_FUNCTION, "image", image).detach().cpu().numpy()
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] != 3):
        raise ShapeError.of(
            _FUNCTION,
            "image",
            "have shape (H, W), (C, H, W) or (H, W, C) with 1 or 3 channels",
            tuple(values.shape),
            "Pass one image",
        )
    low, high = values.min(), values.max()
    return (values - low) / ((high - low) or 1.0)
