from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tests.report.made import Reports


def test_json_is_strict_and_holds_the_numbers_of_the_report(
    reports: Reports, tmp_path: Path
) -> None:
    for report in reports.values():
        path = report.to_json(tmp_path / "report.json")

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        record = json.loads(path.read_text("utf-8"), parse_constant=refuse)
        assert record["schema"] == "mcdrop.calibration_report/2"
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
                assert entry["main_is"] == report.outcomes[method["name"]][key]
        for key, verdict in record["verdicts"].items():
            assert verdict == dataclasses.asdict(report.verdicts[key])
        for name, curves in report.curves.items():
            shown = record["figures"][name]["curves"]
            assert [tuple(curve["y"]) for curve in shown] == [curve.y for curve in curves]
        assert record["run"]["sites"][0]["name"] == "layers.2"
        assert record["monte_carlo_error"] == report.monte_carlo_error
