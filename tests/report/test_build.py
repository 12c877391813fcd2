import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError
from mcdrop.report import calibration_report


def test_the_same_seed_gives_the_same_report_and_another_moves_only_intervals(normal_prediction):
    prediction, y = normal_prediction()
    one, same, other = (
        calibration_report(prediction, y, n_resamples=50, seed=seed) for seed in (0, 0, 1)
    )
    assert one.metrics == same.metrics
    assert one.findings == same.findings
    assert {k: e.value for k, e in one.metrics.items()} == {
        k: e.value for k, e in other.metrics.items()
    }


def test_a_wider_level_gives_a_wider_interval(normal_prediction):
    prediction, y = normal_prediction()
    half, most = (
        calibration_report(prediction, y, n_resamples=200, level=level).metrics["rmse"]
        for level in (0.5, 0.99)
    )
    assert most.low < half.low < half.value < half.high < most.high


@pytest.mark.parametrize("convert", [torch.as_tensor, np.ndarray.tolist, pd.DataFrame])
def test_targets_may_be_tensor_list_or_frame(normal_prediction, convert):
    prediction, y = normal_prediction(n=50)
    expected = calibration_report(prediction, y, n_resamples=10).metrics
    assert calibration_report(prediction, convert(y), n_resamples=10).metrics == expected


def test_the_callers_prediction_is_left_as_it_was(passes_prediction):
    prediction, y = passes_prediction(n=50, n_samples=5)
    before = {name: value.copy() for name, value in prediction.to_numpy().items()}
    calibration_report(prediction, y, baselines={"B": prediction}, n_resamples=10)
    for name, value in prediction.to_numpy().items():
        np.testing.assert_array_equal(value, before[name])


def test_importing_the_report_loads_neither_matplotlib_nor_jinja2():
    code = (
        "import sys, mcdrop.report, mcdrop.baselines;"
        "sys.exit(any(m in sys.modules for m in ('matplotlib', 'jinja2', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_no_prediction_is_refused(normal_prediction):
    _, y = normal_prediction()
    with pytest.raises(
        UnsupportedError,
        match=r"calibration_report: expected `prediction` to be a RegressionPrediction or a "
        r"ClassificationPrediction, but got ndarray\. Pass what predict_with_uncertainty returns",
    ):
        calibration_report(y, y)


def test_targets_of_other_length_or_kind_are_refused(normal_prediction, class_prediction):
    prediction, y = normal_prediction(n=120)
    with pytest.raises(
        ShapeError, match=r"`y` to have shape \(120, 1\) to match `prediction`, but got \(100, 1\)"
    ):
        calibration_report(prediction, y[:100])
    with pytest.raises(UnsupportedError, match=r"expected `y` to hold numbers, but got dtype <U1"):
        calibration_report(prediction, ["a"] * 120)
    y[5] = np.nan
    with pytest.raises(NonFiniteError, match=r"expected `y` to be finite, .* rows \[5\]\. Drop"):
        calibration_report(prediction, y)
    probs, labels = class_prediction(n=50)
    with pytest.raises(ShapeError, match=r"expected `y` to have shape \(50,\) .* got \(50, 3\)"):
        calibration_report(probs, torch.eye(3)[labels])
    with pytest.raises(RangeError, match=r"class indices from 0 to 2, but got values \[1\.0, 2\.0"):
        calibration_report(probs, labels + 1)


def test_baselines_of_another_type_length_or_name_are_refused(normal_prediction, class_prediction):
    prediction, y = normal_prediction(n=120)
    probs, _ = class_prediction(n=120)
    with pytest.raises(
        UnsupportedError,
        match=r'expected `baselines\["L2"\]` to be a RegressionPrediction, .* but got '
        r"ClassificationPrediction\. Compare predictions of the same task",
    ):
        calibration_report(prediction, y, baselines={"L2": probs})
    with pytest.raises(
        ShapeError, match=r'`baselines\["Ridge"\]` to have shape \(120, 1\) .* got \(100, 1\)'
    ):
        calibration_report(prediction, y, baselines={"Ridge": prediction[:100]})
    with pytest.raises(RangeError, match=r"names other than the main method's, but got 'Ridge'"):
        calibration_report(prediction, y, name="Ridge", baselines={"Ridge": prediction})


def test_predictions_that_cannot_be_judged_are_refused(normal_prediction, class_prediction):
    prediction, y = normal_prediction(n=50)
    with pytest.raises(
        ShapeError, match="expected `prediction` to hold at least 2 rows, but got 1"
    ):
        calibration_report(prediction[0], y[:1])
    prediction.mean[7] = float("inf")
    with pytest.raises(NonFiniteError, match=r"`mean of MC dropout` to be finite, .* rows \[7\]"):
        calibration_report(prediction, y)
    probs, labels = class_prediction(n=50)
    probs.probs[3] = float("nan")
    with pytest.raises(NonFiniteError, match=r"`probs of MC dropout` to be finite, .* rows \[3\]"):
        calibration_report(probs, labels)


def test_options_out_of_range_are_refused(normal_prediction):
    prediction, y = normal_prediction(n=50)
    with pytest.raises(RangeError, match=r"expected `level` to lie in \(0, 1\), but got 95"):
        calibration_report(prediction, y, level=95)
    with pytest.raises(RangeError, match="expected `n_resamples` to be an integer"):
        calibration_report(prediction, y, n_resamples=0)


def test_json_is_strict_and_holds_the_numbers_of_the_report(reports, tmp_path):
    for report in reports.values():
        path = report.to_json(tmp_path / "report.json")

        def refuse(constant):
            raise AssertionError(f"{constant} is no JSON")

        record = json.loads(path.read_text("utf-8"), parse_constant=refuse)
        assert record["schema"] == "mcdrop.calibration_report/1"
        assert [method["name"] for method in record["methods"]] == list(report.methods)
        assert record["findings"] == list(report.findings)
        for method in record["methods"]:
            estimates = report.estimates(method["name"])
            for key, entry in method["metrics"].items():
                if entry["value"] is None:
                    assert key not in estimates
                    assert entry["reason"]
                else:
                    assert entry["value"] == estimates[key].value
                    assert entry["low"] == estimates[key].low
            for key, entry in method.get("main_minus_this", {}).items():
                assert entry["value"] == report.differences[method["name"]][key].value
                assert entry["main_is"] in {"better", "worse", "undecided", "descriptive"}
        for name, curves in report.curves.items():
            shown = record["figures"][name]["curves"]
            assert [tuple(curve["y"]) for curve in shown] == [curve.y for curve in curves]
        assert record["run"]["sites"][0]["name"] == "layers.2"
        assert record["monte_carlo_error"] == report.monte_carlo_error
