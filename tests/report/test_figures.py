from __future__ import annotations

from mcdrop.report.figures import FIGURES
from tests.report.made import Reports


def test_every_caption_is_whole() -> None:
    for caption in FIGURES.values():
        assert caption.reading.endswith(".")
        assert "{level}" in caption.interval


def test_a_report_has_the_figures_of_its_task(reports: Reports) -> None:
    both = ["error_by_uncertainty", "referral"]
    passes = ["convergence"]  # where they were kept
    assert list(reports["regression"].curves) == ["coverage", "pit", *both, *passes]
    assert list(reports["classification"].curves) == ["reliability", *both]


def test_only_methods_that_state_an_uncertainty_are_drawn(reports: Reports) -> None:
    for name, curves in reports["regression"].curves.items():
        assert name == "convergence" or [curve.method for curve in curves] == [
            "MC dropout",
            "Ridge",
        ]
