"""Predictions and targets that a recalibration accepts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import mcdrop
from mcdrop.recalibration import ConformalRegressor
from mcdrop.recalibration._matched import (
    labels_of,
    require_classes,
    require_classification,
    require_density,
    require_regression,
    require_row_shape,
    targets_of,
)
from tests.recalibration.cases import averaged, mixture, normal


def test_types_are_told_apart() -> None:
    regression, classification = normal([0.0, 1.0], 1.0), averaged([[0.5, 0.5]])
    require_regression("f", regression)
    require_classification("f", classification)
    with pytest.raises(mcdrop.UnsupportedError, match="f: .* be a RegressionPrediction, but got"):
        require_regression("f", classification)
    with pytest.raises(mcdrop.UnsupportedError, match="Pass what predict_with_uncertainty returns"):
        require_classification("f", np.zeros(3))


def test_plain_predictions_carry_no_correction_yet() -> None:
    p = normal(np.zeros(4), 1.0)
    corrected = ConformalRegressor(level=0.5).fit(p, np.ones(4))(p)
    require_regression("f", corrected, plain=False)
    with pytest.raises(mcdrop.UnsupportedError, match="Let this correction come first"):
        require_regression("f", corrected)


def test_outputs_are_those_of_the_fit() -> None:
    with pytest.raises(mcdrop.ShapeError, match=r"have rows of shape \(2,\), as in the fit"):
        require_row_shape("f", torch.zeros(3), torch.Size((2,)))
    with pytest.raises(mcdrop.ShapeError, match="have 3 classes, as in the fit, but got 2"):
        require_classes("f", averaged([[0.5, 0.5]]), 3)


def test_a_density_needs_passes_and_noise() -> None:
    require_density("f", mixture(3))
    with pytest.raises(mcdrop.OutputError, match="hold samples, because its distribution"):
        require_density("f", replace(mixture(3), samples=None))
    with pytest.raises(mcdrop.RangeError, match="have observation noise"):
        require_density("f", replace(mixture(3), aleatoric_variance=torch.zeros(3, 1)))


def test_targets_and_labels_are_finite_and_at_least_one() -> None:
    assert targets_of("f", normal([[0.0], [1.0]], 1.0), [1, 2]).shape == (2, 1)
    assert labels_of("f", averaged([[0.5, 0.5]]), [1.0]).tolist() == [1]
    with pytest.raises(mcdrop.NonFiniteError, match="`y` to hold finite numbers"):
        targets_of("f", normal([0.0], 1.0), [np.nan])
    with pytest.raises(mcdrop.NonFiniteError, match="`prediction` to hold finite numbers"):
        targets_of("f", normal([np.inf], 1.0), [0.0])
    with pytest.raises(mcdrop.ShapeError, match="`y` to hold at least one row"):
        targets_of("f", normal(np.zeros(0), 1.0), [])
