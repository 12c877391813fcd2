from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop.displays._matching import matched_classification, matched_regression
from mcdrop.recalibration import StdScaling, TemperatureScaling
from mcdrop.report.measures import Resampling
from mcdrop.report.repairs import FOLDS, LEAST_ROWS, repairs
from tests.report.made import class_prediction, normal_like, normal_prediction, passes_prediction

DRAWS = Resampling(0.95, 50, 3)


def folds(n: int) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng([3, 6]).permutation(n), FOLDS)


def test_every_row_is_scored_by_a_fit_that_did_not_see_it() -> None:
    prediction, y = class_prediction(n=103, sharpen=3.0)
    judged = matched_classification({"A": prediction}, y, DRAWS)["A"]
    (found,) = repairs(judged, DRAWS)
    expected = torch.empty_like(prediction.probs)
    for fold in folds(103):
        rest = np.setdiff1d(np.arange(103), fold)
        scaling = TemperatureScaling().fit(prediction[rest], y[rest])
        expected[fold] = scaling(prediction[fold]).probs
    nll = -expected.gather(1, y[:, None]).log().mean().item()
    assert found.method == "TemperatureScaling"
    assert found.metrics["nll"].value == pytest.approx(nll, rel=1e-9)
    before = prediction.log_prob(y).mean().item()
    assert found.differences["nll"].value == pytest.approx(nll + before, rel=1e-9)


def test_a_spread_that_is_too_small_is_mended_on_other_rows() -> None:
    prediction, y = normal_prediction(n=200, stated=0.4)
    judged = matched_regression({"A": prediction}, y, DRAWS)["A"]
    scaled, mapped = repairs(judged, DRAWS)
    assert (scaled.method, mapped.method) == ("StdScaling", "QuantileRecalibration")
    inside = torch.zeros(200, 1, dtype=torch.bool)
    for fold in folds(200):
        rest = np.setdiff1d(np.arange(200), fold)
        part = StdScaling().fit(prediction[rest], y[rest])(prediction[fold])
        low, high = part.interval(0.9)
        inside[fold] = (low <= torch.as_tensor(y[fold])) & (torch.as_tensor(y[fold]) <= high)
    assert scaled.metrics["coverage_90"].value == inside.double().mean().item()
    for repair in (scaled, mapped):
        assert 0.84 < repair.metrics["coverage_90"].value < 0.96
        assert repair.differences["nll"].high < 0


def test_the_order_of_rows_is_kept_so_that_differences_are_paired() -> None:
    # A constant factor of 1 would leave every row as it is: differences have no spread.
    prediction, y = normal_prediction(n=2000)
    judged = matched_regression({"A": prediction}, y, DRAWS)["A"]
    scaled = repairs(judged, DRAWS)[0]
    difference = scaled.differences["nll"]
    assert difference.standard_error < 0.1 * scaled.metrics["nll"].standard_error


def test_too_few_rows_or_nothing_to_stretch_give_none() -> None:
    few, y = normal_prediction(n=LEAST_ROWS - 1)
    assert repairs(matched_regression({"A": few}, y, DRAWS)["A"], DRAWS) == ()
    spread, y = normal_prediction(n=80)
    point = normal_like(spread.mean, 0 * spread.mean)
    assert repairs(matched_regression({"A": point}, y, DRAWS)["A"], DRAWS) == ()


@pytest.mark.parametrize(("noise", "keep"), [(0.0, True), (1.0, False), (1.0, True)])
def test_passes_of_any_kind_can_be_repaired(noise: float, keep: bool) -> None:
    prediction, y = passes_prediction(n=100, noise=noise, keep=keep)
    found = repairs(matched_regression({"A": prediction}, y, DRAWS)["A"], DRAWS)
    assert {repair.method for repair in found} == {"StdScaling", "QuantileRecalibration"}


def test_vector_scaling_is_tried_only_with_rows_enough() -> None:
    for n, methods in ((239, 1), (240, 2)):
        prediction, y = class_prediction(n=n)
        judged = matched_classification({"A": prediction}, y, DRAWS)["A"]
        assert len(repairs(judged, DRAWS)) == methods
