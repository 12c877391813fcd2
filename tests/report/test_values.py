from __future__ import annotations

import dataclasses

import pytest

from tests.report.made import Reports


def test_the_main_method_comes_first_and_every_method_has_its_estimates(reports: Reports) -> None:
    for report in reports.values():
        assert report.methods == (report.name, *report.baseline_metrics)
        assert report.estimates(report.name) == report.metrics
        for name, estimates in report.baseline_metrics.items():
            assert report.estimates(name) == estimates


def test_a_report_cannot_be_changed(reports: Reports) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        reports["regression"].headline = "All is well."  # type: ignore[misc]
