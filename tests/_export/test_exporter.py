"""Programs are compared with predictions before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.batch import Batch
from mcdrop._engine.settings import Settings
from mcdrop._export.exporter import Exporter, Job
from mcdrop._export.jobs import job_of_model
from mcdrop._export.recalibrating import steps_of
from mcdrop._tasks.settings import TaskSettings

X = torch.randn(5, 3)


def job(**options: Any) -> Job:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)).eval()
    settings = Settings("export", net, {}, (), "shared", True, seed=0, device="cpu")
    asked = TaskSettings(settings, "regression", n_samples=8, **options)
    return job_of_model(asked, steps_of("export", None))


def test_a_program_that_differs_is_refused_with_what_is_off() -> None:
    exporter = Exporter(job(), X)
    with torch.no_grad():
        program = exporter.program()
        exporter.check(lambda rows: dict(program(*rows.args)))
        for change, text in {"std": "std is off by 1", "mean": "mean is off by 1"}.items():

            def wrong(rows: Batch, change: str = change) -> dict[str, Tensor]:
                found = dict(program(*rows.args))
                return {**found, change: found[change] + 1}

            with pytest.raises(mcdrop.UnsupportedError, match=f"once it is exported: {text}"):
                exporter.check(wrong)


def test_a_summary_that_differs_is_no_program() -> None:
    good = job()

    def other(batch: Batch) -> dict[str, Tensor]:
        return {name: x[:, :1] for name, x in good.expected(batch).items()}

    exporter = Exporter(replace(good, expected=other), X)
    with torch.no_grad(), pytest.raises(mcdrop.UnsupportedError, match=r"mean has shape \(5, 2\)"):
        exporter.program()


def test_metadata_are_plain_values() -> None:
    exporter = Exporter(job(noise_std=0.5), X)
    with torch.no_grad():
        found = exporter.metadata(exporter.program())
    assert found["outputs"][0] == {"name": "mean", "dtype": "float32", "row_shape": [2]}
    assert (found["noise_std"], found["folded_at"]) == (0.5, "first dropout")
