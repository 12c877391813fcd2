from __future__ import annotations

from tests.report.made import Reports


def test_markdown_carries_headline_findings_and_a_row_per_metric(
    reports: Reports,
) -> None:
    for report in reports.values():
        text = report.to_markdown()
        assert text == str(report)
        assert f"**{report.headline}**" in text
        assert text.count("\n- ") >= len(report.findings)
        assert text.count("\n| ") == 4 + len(report.notes[report.name]) + len(
            set().union(*report.differences.values())
        )
