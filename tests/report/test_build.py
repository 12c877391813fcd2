from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mcdrop.errors import RangeError, ShapeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction
from mcdrop.report import calibration_report
from tests.report.made import normal_prediction, passes_prediction


def test_the_same_seed_gives_the_same_report_and_another_moves_only_intervals() -> None:
    prediction, y = normal_prediction()
    one, same, other = (
        calibration_report(prediction, y, n_resamples=50, seed=seed) for seed in (0, 0, 1)
    )
    assert one.metrics == same.metrics
    assert one.findings == same.findings
    assert {k: e.value for k, e in one.metrics.items()} == {
        k: e.value for k, e in other.metrics.items()
    }


def test_a_wider_level_gives_a_wider_interval() -> None:
    prediction, y = normal_prediction()
    half, most = (
        calibration_report(prediction, y, n_resamples=200, level=level).metrics["rmse"]
        for level in (0.5, 0.99)
    )
    assert most.low < half.low < half.value < half.high < most.high


@pytest.mark.parametrize("convert", [torch.as_tensor, np.ndarray.tolist, pd.DataFrame])
def test_targets_may_be_tensor_list_or_frame(convert: Callable[[Any], Any]) -> None:
    prediction, y = normal_prediction(n=50)
    expected = calibration_report(prediction, y, n_resamples=10).metrics
    assert calibration_report(prediction, convert(y), n_resamples=10).metrics == expected


def test_the_callers_prediction_is_left_as_it_was() -> None:
    prediction, y = passes_prediction(n=50, n_samples=5)
    before = {name: value.copy() for name, value in prediction.to_numpy().items()}
    calibration_report(prediction, y, baselines={"B": prediction}, n_resamples=10)
    for name, value in prediction.to_numpy().items():
        np.testing.assert_array_equal(value, before[name])


def test_importing_the_report_loads_neither_matplotlib_nor_jinja2() -> None:
    code = (
        "import sys, mcdrop.report, mcdrop.baselines;"
        "sys.exit(any(m in sys.modules for m in ('matplotlib', 'jinja2', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_options_out_of_range_are_refused() -> None:
    prediction, y = normal_prediction(n=50)
    with pytest.raises(RangeError, match=r"expected `level` to lie in \(0, 1\), but got 95"):
        calibration_report(prediction, y, level=95)
    with pytest.raises(RangeError, match="calibration_report: expected `n_resamples` to be an int"):
        calibration_report(prediction, y, n_resamples=0)
    with pytest.raises(RangeError, match="calibration_report: expected `seed` to be an integer"):
        calibration_report(prediction, y, seed=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["title", "name"])
def test_what_is_no_text_is_refused(option: str) -> None:
    prediction, y = normal_prediction(n=30)
    wrong: dict[str, Any] = {option: None}
    with pytest.raises(UnsupportedError, match=f"`{option}` to be text, but got NoneType"):
        calibration_report(prediction, y, **wrong)


def test_one_text_is_no_list_of_class_names() -> None:
    prediction = ClassificationPrediction.from_probs([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(ShapeError, match="one name for each of 2 classes, but got 'ab'"):
        calibration_report(prediction, [0, 1], class_names="ab")


@pytest.mark.parametrize("option", ["baselines", "groups", "acceptance"])
def test_what_has_no_names_is_refused(option: str) -> None:
    prediction, y = normal_prediction(n=30)
    asked: dict[str, Any] = {option: [1.0]}
    with pytest.raises(UnsupportedError, match=f"calibration_report: .*`{option}` to be a dict"):
        calibration_report(prediction, y, n_resamples=20, **asked)


def test_a_level_in_percent_is_refused_by_the_report() -> None:
    prediction, y = normal_prediction(n=30)
    with pytest.raises(RangeError, match=r"calibration_report: expected `level` to lie in"):
        calibration_report(prediction, y, level=95)


def test_groups_and_baselines_of_other_rows_are_refused() -> None:
    prediction, y = normal_prediction(n=30)
    names = pd.Index([f"patient {i}" for i in range(30)])
    prediction = replace(prediction, index=names)
    turned = pd.Series(np.arange(30) % 2, index=names[::-1])
    options: list[tuple[str, Any]] = [("groups", {"site": turned}), ("baselines", {"zero": turned})]
    for option, given in options:
        asked: dict[str, Any] = {option: given}
        with pytest.raises(RangeError, match=rf"`{option}\[.* same labels in another order"):
            calibration_report(prediction, y, n_resamples=20, **asked)
        asked = {option: dict.fromkeys(given, turned[::-1])}
        calibration_report(prediction, y, n_resamples=20, **asked)
