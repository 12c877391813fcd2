"""Targets in the shape of a prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import mcdrop
from mcdrop.prediction.targets import aligned_targets, class_labels, numbers


@pytest.mark.parametrize(
    "given",
    [
        [1, 2],
        np.array([1, 2], dtype=np.uint8),
        np.array([0, 2, 1])[::-1][:2],
        torch.tensor([1, 2]),
        pd.Series([1, 2]),
        np.array([1, 2], dtype=object),
    ],
)
def test_numbers_of_every_kind_become_float64(given: Any) -> None:
    found = numbers("f", "y", given)
    assert found.dtype == torch.float64
    assert found.tolist() == [1, 2]


def test_protected_memory_is_copied() -> None:
    given = np.ones(3)
    given.flags.writeable = False
    found = numbers("f", "y", given)
    found += 1
    assert given.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "wrong", [["a", "b"], [1j, 2j], torch.tensor([1j]), np.array(["2024"], dtype="M8[Y]")]
)
def test_what_is_no_number_is_refused(wrong: Any) -> None:
    with pytest.raises(mcdrop.UnsupportedError, match="f: expected `y` to hold numbers"):
        numbers("f", "y", wrong)


def test_none_is_a_missing_number_as_in_a_frame() -> None:
    with pytest.raises(mcdrop.NonFiniteError, match="`y` to hold finite numbers.* in row 1"):
        class_labels("f", [0, None], torch.ones(2, 2) / 2)


def test_rows_of_unequal_length_are_refused() -> None:
    with pytest.raises(mcdrop.ShapeError, match="`y` to be rectangular"):
        numbers("f", "y", [[1.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("shape", "like"),
    [((3,), (3, 1)), ((3, 1), (3,)), ((3, 1, 2), (3, 2)), ((3, 2), (3, 2)), ((0,), (0, 1))],
)
def test_dimensions_of_size_one_come_and_go(shape: tuple[int, ...], like: tuple[int, ...]) -> None:
    assert aligned_targets("f", np.zeros(shape), torch.zeros(like)).shape == like


@pytest.mark.parametrize(
    ("shape", "like"), [((4,), (3, 1)), ((), (1,)), ((2, 3), (3, 2)), ((3, 3, 2), (3, 2, 3))]
)
def test_other_shapes_are_refused_even_of_the_same_size(
    shape: tuple[int, ...], like: tuple[int, ...]
) -> None:
    with pytest.raises(mcdrop.ShapeError, match="to match `prediction`, but got"):
        aligned_targets("f", np.zeros(shape), torch.zeros(like))


def test_gradients_reach_the_targets() -> None:
    y = torch.ones(3, requires_grad=True)
    aligned_targets("f", y, torch.zeros(3, 1)).sum().backward()
    assert y.grad is not None
    assert y.grad.tolist() == [1, 1, 1]


def test_labels_are_classes() -> None:
    probs = torch.ones(3, 2) / 2
    found = class_labels("f", [0.0, 1.0, 1.0], probs)
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 1, 1]
    with pytest.raises(mcdrop.RangeError, match="hold class indices from 0 to 1, but got 2 in row"):
        class_labels("f", [0, 1, 2], probs)
    with pytest.raises(mcdrop.ShapeError, match=r"have shape \(3,\) to match"):
        class_labels("f", np.eye(3), probs)


NAMED = pd.Index(["a", "b", "c"])


@pytest.mark.parametrize(
    ("index", "given"),
    [
        (NAMED, NAMED),
        (NAMED, pd.RangeIndex(3)),
        (pd.Index([7, 5, 6]), pd.RangeIndex(3)),
        (pd.RangeIndex(3), NAMED),
        (None, NAMED[::-1]),
    ],
)
def test_an_index_that_is_equal_or_counts_rows_is_taken(index: Any, given: pd.Index) -> None:
    y = pd.Series([1.0, 2.0, 3.0], index=given)
    found = aligned_targets("f", y, torch.zeros(3), index=index)
    assert found.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("index", "given", "text"),
    [
        (NAMED, NAMED[::-1], "the same labels in another order"),
        (pd.RangeIndex(3), pd.Index([0, 2, 1]), "the same labels in another order"),
        (NAMED, pd.Index(["a", "b", "d"]), "'d' where it has 'c'"),
        (pd.Index([4, 5, 6]), pd.date_range("2024", periods=3), "Timestamp.* where it has 4"),
    ],
)
def test_targets_of_other_rows_are_refused(index: Any, given: pd.Index, text: str) -> None:
    y = pd.Series([0, 1, 0], index=given)
    with pytest.raises(
        mcdrop.RangeError, match=rf"f: expected `y` to have the index of `prediction`.*{text}"
    ):
        class_labels("f", y, torch.ones(3, 2) / 2, index=index)


def test_every_call_that_takes_targets_looks_at_the_index() -> None:
    table = pd.DataFrame(np.eye(30, 2), index=[f"row {i}" for i in range(30)])
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    mc = mcdrop.wrap(net)
    prediction = mc.predict_with_uncertainty(table, noise_std=1.0, keep_samples=True)
    y = pd.Series(np.arange(30.0), index=table.index)
    calls: dict[str, Callable[[Any], Any]] = {
        "calibration_report": lambda y: mcdrop.calibration_report(prediction, y, n_resamples=20),
        "RegressionPrediction.log_prob": prediction.log_prob,
        "RejectionRule.fit": lambda y: mcdrop.RejectionRule.fit(prediction, y),
        "fit_noise_std": lambda y: mcdrop.fit_noise_std(prediction, y),
        "StdScaling.fit": lambda y: mcdrop.recalibration.StdScaling().fit(prediction, y),
        "CoverageDisplay": lambda y: mcdrop.displays.CoverageDisplay.from_predictions(
            y, prediction, ax=Figure().add_subplot()
        ),
    }
    for name, call in calls.items():
        call(y)
        with pytest.raises(mcdrop.RangeError, match=f"^{name}.*another order"):
            call(y[::-1])
