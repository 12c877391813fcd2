from __future__ import annotations

from pathlib import Path

import pytest

from mcdrop.report import calibration_report
from tests.report.made import Reports, normal_prediction


def test_the_hubs_own_reader_finds_every_metric_with_its_interval(reports: Reports) -> None:
    hub = pytest.importorskip("huggingface_hub")
    for report in reports.values():
        card = hub.ModelCard(report.to_model_card(model_name="net", dataset="winter: 2030"))
        found = {result.metric_type: result for result in card.data.eval_results}
        assert set(found) == set(report.metrics)
        for key, estimate in report.metrics.items():
            assert found[key].metric_value == estimate.value
            assert found[key].metric_args["low"] == estimate.low
            assert found[key].metric_args["high"] == estimate.high
            assert found[key].dataset_name == "winter: 2030"
        assert report.headline in card.text


def test_names_are_quoted_and_a_file_is_written_whole(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    prediction, y = normal_prediction(n=30)
    hostile = 'a: "b"\n---\n- c'
    report = calibration_report(prediction, y, title=hostile, n_resamples=10)
    path = tmp_path / "README.md"
    card = report.to_model_card(path, task="image-regression")
    assert path.read_text("utf-8") == card
    head = yaml.safe_load(card.split("\n---\n")[0])
    assert head["model-index"][0]["name"] == hostile
    assert head["model-index"][0]["results"][0]["task"]["type"] == "image-regression"
    assert list(tmp_path.iterdir()) == [path]
