from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from mcdrop.displays import PixelMapDisplay
from mcdrop.errors import RangeError, ShapeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction


def segmented(passes: int = 3) -> tuple[ClassificationPrediction, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    samples = (3 * torch.randn(passes, 2, 3, 4, 5, generator=draw)).softmax(dim=2)
    y = torch.randint(0, 3, (2, 4, 5), generator=draw)
    return ClassificationPrediction.from_samples(samples), y


def test_every_map_is_that_of_its_row() -> None:
    p, y = segmented()
    axes = Figure().subplots(1, 5)
    display = PixelMapDisplay.from_predictions(y, p, row=1, image=torch.rand(3, 4, 5), axes=axes)
    assert [ax.get_title() for ax in display.axes_] == list(display.maps)
    shown = {ax.get_title(): np.asarray(ax.images[0].get_array()) for ax in display.axes_}
    assert shown["image"].shape == (4, 5, 3)
    assert (shown["predicted class"] == p.labels[1].numpy()).all()
    assert np.allclose(shown["predictive entropy"], p.predictive_entropy[1])
    assert np.allclose(shown["mutual information"], p.mutual_information[1])
    assert (shown["wrong pixels"] == (p.labels[1] != y[1]).numpy()).all()
    assert list(display.axes_[2].images[0].get_clim()) == pytest.approx([0, math.log(3)])
    assert display.figure_ is display.axes_[0].figure


def test_without_targets_passes_or_image_there_are_two_maps() -> None:
    p, _ = segmented()
    point = ClassificationPrediction.from_probs(p.probs)
    display = PixelMapDisplay.from_predictions(None, point, axes=Figure().subplots(1, 2))
    assert repr(display) == "PixelMapDisplay(predicted class, predictive entropy)"


def test_mistakes_are_named() -> None:
    p, y = segmented()
    axes = Figure().subplots(1, 2)
    with pytest.raises(ShapeError, match=r"`axes` to hold one for each of 4 maps: predicted class"):
        PixelMapDisplay.from_predictions(y, p, axes=axes)
    with pytest.raises(RangeError, match="`row` to be the number of one of 2 rows, but got 2"):
        PixelMapDisplay.from_predictions(y, p, row=2, axes=axes)
    with pytest.raises(ShapeError, match=r"`y_true` to have shape \(2, 4, 5\)"):
        PixelMapDisplay.from_predictions(y[:, :3], p, axes=axes)
    with pytest.raises(ShapeError, match=r"`image` to have shape \(H, W\)"):
        PixelMapDisplay.from_predictions(y, p, image=np.zeros((2, 2, 2)), axes=axes)
    flat = ClassificationPrediction.from_probs(torch.full((3, 2), 0.5))
    with pytest.raises(
        UnsupportedError, match=r"`prediction` to hold class probabilities per pixel"
    ):
        PixelMapDisplay.from_predictions([0, 1, 1], flat)
