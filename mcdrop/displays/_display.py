"""What all displays share: `from_predictions`, `plot` and the attributes these leave behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mcdrop.checks import require_count, require_installed, require_unit
from mcdrop.displays._classification import Classification
from mcdrop.displays._curve import Curve
from mcdrop.displays._draws import Draws
from mcdrop.displays._matching import matched_classification, matched_regression, require_rows
from mcdrop.displays._regression import Regression
from mcdrop.displays._style import Look, next_look
from mcdrop.errors import UnsupportedError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.base import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Display", "scaled"]

D = TypeVar("D", bound="Display")

_RESAMPLES = 1000


class Display(ABC):
    """Base of the displays; each one is the points of a figure and draws them on given axes.

    Attributes:
        curve: The points, as shares and in the units of y.
        name: Name in the key.
        ax_: Axes that were drawn on; set by `plot`.
        figure_: Figure of these axes; set by `plot`.
        line_: The line or the bars of the prediction; set by `plot`.
    """

    x_label: ClassVar[str]

    ax_: Axes
    figure_: Figure | None
    line_: Any

    def __init__(self, curve: Curve, *, name: str | None = None) -> None:
        self.curve = curve
        self.name = name

    @classmethod
    def from_predictions(
        cls: type[D],
        y_true: Any,
        prediction: Prediction,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        level: float = 0.95,
        seed: int = 0,
    ) -> D:
        """Compute the points of a prediction and draw them.

        Args:
            y_true: Targets with the shape of the predictive mean, or labels (N,).
            prediction: For the same N rows.
            name: Name in the key.
            ax: Axes to draw on; a new figure by default.
            level: Coverage of intervals and ranges, in (0, 1).
            seed: Seed of resamples and drawn outcomes.

        Returns:
            The display, with `ax_`, `figure_` and `line_` set.

        Raises:
            UnsupportedError: If the prediction is not of the display's task, states no uncertainty,
                or matplotlib is not installed.
            ShapeError: If `y_true` does not have the rows of `prediction`, or there is one row.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a label is no class index or `level` no probability.
        """
        function = f"{cls.__name__}.from_predictions"
        require_installed(function, "matplotlib", "report")
        require_unit(function, "level", level)
        require_count(function, "seed", seed, 0)
        judged = _judged(function, y_true, prediction, Draws(level, _RESAMPLES, seed))
        curve = cls.points(name or "", judged)
        if curve is None:
            raise UnsupportedError.of(
                function,
                "prediction",
                cls._wanted(),
                repr(prediction),
                "Choose a display for this kind of prediction",
            )
        return cls(curve, name=name).plot(ax)

    def plot(self: D, ax: Axes | None = None, *, name: str | None = None) -> D:
        """Draw on given axes; calls on the same axes take one color after the other.

        Args:
            ax: Axes to draw on; a new figure of pyplot by default.
            name: Name in the key; by default that of the display.

        Raises:
            UnsupportedError: If matplotlib is not installed.
        """
        require_installed(f"{type(self).__name__}.plot", "matplotlib", "report")
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(layout="constrained")
        look, first = next_look(ax)
        if first:
            for label, handle in self.draw_reference(ax).items():
                handle.set_label(label)
        self.line_ = self.draw(ax, look)
        shown = self.name if name is None else name
        if shown:
            self.line_.set_label(shown)
        self.finish(ax)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        return self

    @classmethod
    @abstractmethod
    def points(cls, name: str, judged: Classification | Regression) -> Curve | None:
        """Return the points; None if the prediction has none for this display."""

    @classmethod
    @abstractmethod
    def _wanted(cls) -> str:
        """Return what the display needs, to complete "expected `prediction` to"."""

    @property
    @abstractmethod
    def y_label(self) -> str:
        """Label of the vertical axis."""

    def shown(self) -> Curve:
        """Return the points as they are drawn."""
        return self.curve

    @abstractmethod
    def draw(self, ax: Axes, look: Look) -> Any:
        """Draw the points; return the line or the bars."""

    def draw_reference(self, ax: Axes) -> dict[str, Any]:
        """Draw what calibration or chance would give, once per axes; return handles by name."""
        return {}

    def finish(self, ax: Axes) -> None:
        """Label the axes."""
        ax.set(xlabel=self.x_label, ylabel=self.y_label)

    def __repr__(self) -> str:
        """Return the name and the number of points."""
        return f"{type(self).__name__}({self.name!r}, {len(self.curve.x)} points)"


def _judged(
    function: str, y_true: Any, prediction: object, draws: Draws
) -> Classification | Regression:
    """Pair a prediction with its targets."""
    if isinstance(prediction, RegressionPrediction | ClassificationPrediction):
        require_rows(function, prediction)
    if isinstance(prediction, RegressionPrediction):
        return matched_regression(
            {"prediction": prediction}, y_true, draws, function=function, argument="y_true"
        )["prediction"]
    if isinstance(prediction, ClassificationPrediction):
        return matched_classification(
            {"prediction": prediction}, y_true, draws, function=function, argument="y_true"
        )["prediction"]
    raise UnsupportedError.of(
        function,
        "prediction",
        "be a RegressionPrediction or a ClassificationPrediction",
        type(prediction).__name__,
        "Pass what predict_with_uncertainty returns, after y_true",
    )


def scaled(curve: Curve, *, x: float = 1.0, y: float = 1.0) -> Curve:
    """Return the curve with both axes multiplied, as shares are by 100 to be percentages."""
    changed: dict[str, Any] = {
        field: tuple(y * value for value in getattr(curve, field))
        for field in ("y", "low", "high", "calibrated_low", "calibrated_high", "stated")
    }
    return replace(curve, x=tuple(x * value for value in curve.x), **changed)
