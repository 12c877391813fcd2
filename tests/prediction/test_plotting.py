from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from mcdrop.errors import RangeError, ShapeError
from tests.report.made import class_prediction, normal_prediction, passes_prediction


def test_the_band_is_the_interval_in_the_order_of_the_input() -> None:
    prediction, _ = normal_prediction(n=30)
    x = np.random.default_rng(0).permutation(30)
    ax = Figure().add_subplot()
    assert prediction.plot(x, ax=ax, level=0.8) is ax
    order = np.argsort(x)
    drawn = np.asarray(ax.lines[0].get_data())
    np.testing.assert_array_equal(drawn[0], np.sort(x))
    np.testing.assert_array_equal(drawn[1], prediction.mean.numpy()[order, 0])
    low, high = prediction.interval(0.8)
    (band,) = ax.collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert heights.min() == pytest.approx(low.min().item())
    assert heights.max() == pytest.approx(high.max().item())
    assert ax.get_legend_handles_labels()[1] == ["predictive mean", "80 % interval"]


def test_without_samples_the_band_is_that_of_the_normal() -> None:
    kept, _ = passes_prediction(n=20)
    dropped, _ = passes_prediction(n=20, keep=False)
    for prediction in (kept, dropped):
        ax = prediction.plot(torch.arange(20), ax=Figure().add_subplot(), name="net")
        assert ax.lines[0].get_label() == "net"


def test_a_band_needs_one_input_and_one_output_per_row() -> None:
    prediction, _ = normal_prediction(n=20)
    function = r"RegressionPrediction\.plot: expected `x` to hold one number per row"
    with pytest.raises(ShapeError, match=function):
        prediction.plot(np.zeros(19))
    several, _ = normal_prediction(n=20, d=2)
    with pytest.raises(ShapeError, match=function + r".* shape \(20, 2\)\. Pass the one-dim"):
        several.plot(np.zeros(20))
    with pytest.raises(RangeError, match=r"`level` to lie in \(0, 1\), but got 90"):
        prediction.plot(np.zeros(20), ax=Figure().add_subplot(), level=90)


def test_a_notebook_shows_the_first_rows_and_how_many_follow() -> None:
    spread, _ = normal_prediction(n=20)
    probs, _ = class_prediction(n=3)
    html = spread._repr_html_()
    assert html.count('<th scope="row">') == 5
    assert "15 more rows" in html
    assert f"{spread.mean[0, 0]:.4g}" in html
    assert "more rows" not in probs._repr_html_()
    assert re.findall(r'<th scope="col">(\w+)', probs._repr_html_())[:3] == [
        "row",
        "label",
        "confidence",
    ]
