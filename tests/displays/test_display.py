"""What all displays keep: scikit-learn's convention, errors that name the argument."""

from __future__ import annotations

import inspect
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from mcdrop import displays
from mcdrop.displays._curve import Curve
from mcdrop.displays._display import Display, scaled
from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError
from tests.report.made import class_prediction, normal_like, normal_prediction

ALL = [getattr(displays, name) for name in displays.__all__]
CLASSES = (
    displays.ReliabilityDisplay,
    displays.ErrorByUncertaintyDisplay,
    displays.SparsificationDisplay,
)
SPREADS = (
    displays.CoverageDisplay,
    displays.PITDisplay,
    displays.ErrorByUncertaintyDisplay,
    displays.SparsificationDisplay,
)
EACH = [(display, "classes") for display in CLASSES] + [(display, "spread") for display in SPREADS]
each = pytest.mark.parametrize(("display", "kind"), EACH)


def made(kind: str, n: int = 120) -> tuple[Any, Any]:
    return class_prediction(n) if kind == "classes" else normal_prediction(n)


@each
def test_it_draws_on_the_axes_given_and_leaves_them_behind(
    display: type[Display], kind: str
) -> None:
    prediction, y = made(kind)
    ax = Figure().add_subplot()
    shown = display.from_predictions(y, prediction, name="A", ax=ax)
    assert shown.ax_ is ax
    assert shown.figure_ is ax.get_figure()
    assert shown.line_ in [*ax.lines, *ax.containers, *ax.patches]
    assert ax.get_xlabel() == shown.x_label
    assert "A" in ax.get_legend_handles_labels()[1]


def test_the_signature_is_that_of_scikit_learn() -> None:
    for display in ALL:
        if display is displays.PixelMapDisplay:  # draws several axes, for one row
            continue
        parameters = inspect.signature(display.from_predictions).parameters
        assert list(parameters)[:4] == ["y_true", "prediction", "name", "ax"]
        assert all(
            parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("name", "ax")
        )


@each
def test_two_on_the_same_axes_have_two_colors_and_one_reference(
    display: type[Display], kind: str
) -> None:
    prediction, y = made(kind)
    ax = Figure().add_subplot()
    first = display.from_predictions(y, prediction, name="A", ax=ax)
    second = display.from_predictions(y, prediction, name="B", ax=ax)
    _, labels = ax.get_legend_handles_labels()
    assert sorted(labels) == sorted(set(labels))
    assert {"A", "B"} <= set(labels)
    assert first.line_ is not second.line_


@each
def test_points_can_be_drawn_again_and_settings_stay(display: type[Display], kind: str) -> None:
    prediction, y = made(kind)
    before = dict(mpl.rcParams)
    shown = display.from_predictions(y, prediction)
    again = shown.plot(Figure().add_subplot(), name="again")
    assert "again" in again.ax_.get_legend_handles_labels()[1]
    assert dict(mpl.rcParams) == before
    plt.close("all")


@each
def test_arrays_frames_and_lists_give_the_same_points(display: type[Display], kind: str) -> None:
    prediction, y = made(kind)
    axes = Figure().subplots(1, 4)
    forms: list[Any] = [y, np.asarray(y), np.asarray(y).tolist(), pd.DataFrame(np.asarray(y))]
    if kind == "classes":
        forms[3] = pd.Series(np.asarray(y))
    curves = [
        display.from_predictions(form, prediction, ax=ax).curve
        for form, ax in zip(forms, axes, strict=True)
    ]
    assert all(curve == curves[0] for curve in curves)


@each
def test_two_rows_are_enough(display: type[Display], kind: str) -> None:
    prediction, y = made(kind, 2)
    curve = display.from_predictions(y, prediction, ax=Figure().add_subplot()).curve
    assert np.isfinite([*curve.x, *curve.y, *curve.low, *curve.high]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_any_precision_will_do(dtype: torch.dtype) -> None:
    prediction, y = class_prediction(80)
    narrow = prediction._map(lambda _, values: values.to(dtype))
    for display in CLASSES:
        curve = display.from_predictions(y, narrow, ax=Figure().add_subplot()).curve
        assert sum(curve.count) >= 80


@each
def test_mistakes_are_named(display: type[Display], kind: str) -> None:
    prediction, y = made(kind)
    function = rf"{display.__name__}\.from_predictions: expected "
    with pytest.raises(ShapeError, match=function + r"`y_true` to have shape \(120"):
        display.from_predictions(y[:100], prediction)
    with pytest.raises(UnsupportedError, match=function + "`prediction` to be a Regression.* Pass"):
        display.from_predictions(prediction, y)
    with pytest.raises(RangeError, match=function + r"`level` to lie in \(0, 1\), but got 95"):
        display.from_predictions(y, prediction, level=95)
    wrong = np.asarray(y).astype(float)
    wrong[3] = np.nan
    with pytest.raises(NonFiniteError, match=function + "`y_true` to hold finite .* row 3"):
        display.from_predictions(wrong, prediction)


def test_predictions_of_another_kind_are_refused() -> None:
    probs, labels = class_prediction(50)
    spread, y = normal_prediction(50)
    point = normal_like(spread.mean, 0 * spread.mean)
    for display in (displays.CoverageDisplay, displays.PITDisplay):
        with pytest.raises(UnsupportedError, match="to be a RegressionPrediction .*Choose"):
            display.from_predictions(labels, probs)
    with pytest.raises(UnsupportedError, match="to be a ClassificationPrediction, but got Regress"):
        displays.ReliabilityDisplay.from_predictions(y, spread)
    for other in SPREADS:
        with pytest.raises(UnsupportedError, match="uncertainty|density"):
            other.from_predictions(y, point)


def test_scaling_reaches_every_height_and_leaves_counts() -> None:
    curve = Curve("A", (0.5,), (0.25,), (0.125,), (0.375,), (7,), (0.1,), (0.2,), (0.3,))
    shown = scaled(curve, x=100, y=10)
    assert shown == Curve("A", (50.0,), (2.5,), (1.25,), (3.75,), (7,), (1.0,), (2.0,), (3.0,))


@each
@pytest.mark.parametrize("n_rows", [0, 1])
def test_it_needs_two_rows(display: type[Display], kind: str, n_rows: int) -> None:
    prediction, y = made(kind)
    text = rf"^{display.__name__}.*`prediction` to hold at least 2 rows, but got {n_rows}\. Pass a"
    with pytest.raises(ShapeError, match=text):
        display.from_predictions(y[:n_rows], prediction[:n_rows])
