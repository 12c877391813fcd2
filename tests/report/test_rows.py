from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mcdrop.errors import ShapeError
from mcdrop.report import calibration_report
from tests.report.made import class_prediction, normal_like, normal_prediction


def test_the_worst_and_the_least_sure_rows_are_named_by_their_ids() -> None:
    prediction, y = class_prediction(n=50)
    ids = [f"row-{i}" for i in range(50)]
    report = calibration_report(prediction, y, ids=ids, class_names=["a", "b", "c"], n_resamples=20)
    worst, unsure = report.rows
    given = prediction.probs.gather(1, y[:, None])[:, 0]
    first = int(given.argmin())
    assert worst.rows[0][:3] == (f"row-{first}", "abc"[prediction.labels[first]], "abc"[y[first]])
    assert worst.rows[0][3] == pytest.approx(given.min().item())
    assert unsure.rows[0][0] == f"row-{int(prediction.predictive_entropy.argmax())}"
    assert [len(row) for row in worst.rows] == [len(worst.columns)] * 8


def test_errors_are_counted_in_stated_deviations() -> None:
    prediction, y = normal_prediction(n=50, d=2)
    worst, unsure = calibration_report(prediction, y, n_resamples=20).rows
    error = np.abs(y - prediction.mean.numpy())
    place = error.argmax(axis=1)
    scaled = error.max(axis=1) / prediction.std.numpy()[np.arange(50), place]
    assert worst.rows[0][0] == str(scaled.argmax())
    assert worst.rows[0][-1] == pytest.approx(scaled.max())
    assert unsure.rows[0][0] == str(int(prediction.std.mean(dim=1).argmax()))


def test_a_point_forecast_has_its_largest_errors_only() -> None:
    prediction, y = normal_prediction(n=50)
    point = normal_like(prediction.mean, 0 * prediction.mean)
    (table,) = calibration_report(point, y, n_resamples=20).rows
    assert table.title == "Worst predicted"
    assert table.rows[0][0] == str(np.abs(y - prediction.mean.numpy()).argmax())


def test_ids_need_one_per_row() -> None:
    prediction, y = normal_prediction(n=50)
    with pytest.raises(ShapeError, match=r"`ids` to have shape \(50,\), one name per row, but got"):
        calibration_report(prediction, y, ids=["a"])


def test_rows_are_named_by_the_index_of_the_table_that_was_predicted() -> None:
    prediction, y = normal_prediction(n=30)
    names = pd.Index([f"patient {i}" for i in range(30)])
    report = calibration_report(replace(prediction, index=names), y, n_resamples=20)
    shown = {row[0] for table in report.rows for row in table.rows}
    assert shown
    assert shown <= set(names)
