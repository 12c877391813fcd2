"""Predictions on a CUDA device against those of the CPU; `make gpu` runs these."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from tests.rehearsal import CASES, N_SAMPLES, moments_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def prepared(name: str) -> tuple[torch.nn.Module, Tensor, dict[str, Any]]:
    torch.manual_seed(0)
    case = CASES[name]
    options = {"task": "regression", "n_samples": N_SAMPLES, "seed": 1, **case.predict}
    return case.make().eval(), torch.randn(case.shape), options


@pytest.mark.parametrize("name", CASES)
def test_a_device_gives_what_the_cpu_gives(name: str) -> None:
    model, x, options = prepared(name)
    there = model if "device" in options else copy.deepcopy(model).cuda()
    given = x if "device" in options else x.cuda()
    before = [value.clone() for value in there.state_dict().values()]
    mc = mcdrop.wrap(there, **CASES[name].wrap)
    first, again = (mc.predict_with_uncertainty(given, **options) for _ in range(2))
    here = mcdrop.wrap(model, **CASES[name].wrap)
    expected = here.predict_with_uncertainty(x, **{**options, "device": None, "seed": 2})
    found, spread = (value.cpu() for value in moments_of(first))
    mean, other = moments_of(expected)
    error = ((spread.square() + other.square()) / N_SAMPLES).sqrt().clamp_min(1e-6)
    assert float(((found - mean).abs() / error).max()) < 5
    assert first.run is not None
    assert first.run.strategy == expected.run.strategy
    assert torch.allclose(moments_of(again)[0].cpu(), found, rtol=1e-4, atol=1e-5)
    assert all(map(torch.equal, before, there.state_dict().values()))


@pytest.mark.parametrize(
    ("n_out", "task"), [(1, "regression"), (1, "binary"), (7, "classification")]
)
def test_the_linearized_network_is_the_control_variate_there_as_well(n_out: int, task: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 100), nn.ReLU(), nn.Dropout(0.2), nn.Linear(100, 100), nn.ReLU(),
        nn.Dropout(0.2), nn.Linear(100, n_out),
    ).eval()  # fmt: skip
    x, options = torch.randn(9, 6), {"task": task, "n_samples": 32, "control_variate": True}
    there = mcdrop.wrap(copy.deepcopy(model).cuda())
    found: Any = there.predict_with_uncertainty(x.cuda(), seed=1, **options)
    here: Any = mcdrop.wrap(model).predict_with_uncertainty(x, seed=2, **options)
    assert "linearized network as control variate" in found.run.control_variate
    errors = torch.hypot(found.mcse.cpu(), here.mcse)
    value, expected = moments_of(found)[0], moments_of(here)[0]
    assert value.device.type == "cuda"
    assert float(((value.cpu() - expected).abs() / errors).max()) < 5


@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_the_same_seed_gives_the_same_numbers_on_any_split(masks: Any) -> None:
    model, _, _ = prepared("mlp-independent-strata")
    mc, x = mcdrop.wrap(model.cuda(), masks=masks), torch.randn(300, 6).cuda()
    whole = mc.sample(x, n_samples=20, seed=0)
    for split in ({"batch_size": 7}, {"sample_chunk": 3}, {"strategy": "sequential"}):
        found = mc.sample(x, n_samples=20, seed=0, **split)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
