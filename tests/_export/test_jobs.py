"""What is asked of a model or an estimator becomes one job."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mcdrop._export.jobs import example_of, job_of_estimator
from mcdrop._export.recalibrating import steps_of
from mcdrop.estimators import MCDropoutRegressor

X = np.arange(12.0).reshape(4, 3)
NET = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)).eval()
MODEL = MCDropoutRegressor.from_module(NET, noise_std=2.0, n_samples=10, random_state=3)


@pytest.mark.parametrize(("asked", "passes"), [(None, 10), (24, 24), (1, 2)])
def test_passes_are_those_of_the_estimator_unless_given(asked: int | None, passes: int) -> None:
    job = job_of_estimator("export", MODEL, asked, None, steps_of("export", None))
    assert job.n_samples == passes
    assert job.settings.seed == MODEL.seed_
    assert job.described["noise_std"] == [2.0]
    assert MODEL.n_samples == 10


def test_rows_take_the_type_of_the_network() -> None:
    for rows in (X, torch.from_numpy(X), X.tolist()):
        assert example_of(MODEL, rows).dtype == torch.float32
