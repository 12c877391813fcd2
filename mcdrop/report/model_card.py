"""The numbers of a report as a model card: Hugging Face's metadata, then the report in Markdown."""

from __future__ import annotations

import json
from typing import Any

from mcdrop.report.markdown import markdown
from mcdrop.report.measures import MEASURES
from mcdrop.report.values import ReportContents

__all__ = ["model_card"]

_TASKS = {"regression": "tabular-regression", "classification": "tabular-classification"}


def model_card(
    report: ReportContents, *, model_name: str, dataset: str, dataset_type: str, task: str | None
) -> str:
    """Return the card. YAML's flow style is JSON, which needs no library and quotes every text."""
    metrics = [
        {
            "type": key,
            "name": MEASURES[key].label,
            "value": estimate.value,
            "args": {
                "low": estimate.low,
                "high": estimate.high,
                "level": estimate.level,
                "interval": estimate.method,
                "rows": estimate.n,
            },
        }
        for key, estimate in report.metrics.items()
    ]
    kind = task or _TASKS[report.task]
    result: dict[str, Any] = {
        "task": {"type": kind, "name": kind.replace("-", " ")},
        "dataset": {"type": dataset_type, "name": dataset},
        "metrics": metrics,
    }
    index = [{"name": model_name, "results": [result]}]
    head = [
        "---",
        f"tags: {json.dumps(['uncertainty', 'calibration', 'monte-carlo-dropout'])}",
        f"model-index: {json.dumps(index, allow_nan=False)}",
        "---",
    ]
    return "\n".join([*head, "", markdown(report)])
