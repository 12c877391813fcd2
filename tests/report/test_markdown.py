from __future__ import annotations

from tests.report.made import Reports


def test_markdown_carries_headline_findings_and_a_row_per_metric(
    reports: Reports,
) -> None:
    for report in reports.values():
        text = report.to_markdown()
        assert text == str(report)
        assert f"**Act on these predictions? {report.decision}.**" in text
        assert report.headline in text
        for action in report.actions:
            assert f"\n- {action}" in text
        assert text.count("\n- ") >= len(report.findings)
        # Scores, differences, verdicts, answers, recalibration, parts and two of rows: each table
        # has a header and a rule.
        differing = set().union(*report.differences.values())
        rows = len(report.notes[report.name]) + len(differing) + len(report.verdicts)
        rows += len(report.answers) + len(report.slices)
        rows += sum(len(table.rows) for table in report.rows)
        rows += sum(any(k in r.metrics for r in report.repairs) for k in report.metrics)
        assert text.count("\n| ") == 16 + rows
