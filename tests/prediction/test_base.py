"""What all predictions share: tables without pandas, words about how they were made."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mcdrop
from mcdrop.baselines import Ridge

MEANS = torch.randn(5, 8, 1, generator=torch.Generator().manual_seed(0))


def ensemble(**changes: Any) -> mcdrop.RegressionPrediction:
    """Five members that did not come from passes."""
    values: dict[str, Any] = {
        "mean": MEANS.mean(dim=0),
        "epistemic_variance": MEANS.var(dim=0),
        "aleatoric_variance": torch.zeros(8, 1),
        "mcse": torch.zeros(8, 1),
        "n_samples": 5,
        "samples": MEANS,
    }
    return mcdrop.RegressionPrediction(**{**values, **changes})


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(mcdrop.UnsupportedError, match=r'pip install "mcdrop\[files\]"'):
        ensemble().to_pandas()


def test_only_passes_are_called_passes() -> None:
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
    by_passes = mcdrop.wrap(net).predict_with_uncertainty(torch.ones(2, 3), n_samples=8)
    assert "8 passes, vectorized" in repr(by_passes)
    assert "RegressionPrediction((8, 1), 5 samples, epistemic" in repr(ensemble())
    ridge = Ridge(1.0).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]).predict([[1.0]])
    assert "RegressionPrediction((1,), no passes, " in repr(ridge)


def test_a_default_prediction_says_both_ways_to_an_interval() -> None:
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
    p = mcdrop.wrap(net).predict_with_uncertainty(torch.ones(2, 3), n_samples=8)
    for method in ("interval", "quantile", "log_prob"):
        with pytest.raises(
            mcdrop.OutputError,
            match=rf"RegressionPrediction\.{method}: .*keep_samples=True, .*as_normal\(\)"
            rf"\.{method}\(\.\.\.\); pass noise_std= as well",
        ):
            getattr(p, method)(torch.tensor([0.5, 0.6]) if method == "log_prob" else 0.5)
    noisy = mcdrop.wrap(net).predict_with_uncertainty(torch.ones(2, 3), noise_std=1.0)
    with pytest.raises(mcdrop.OutputError, match=r"as_normal\(\)\.interval\(\.\.\.\)\.$"):
        noisy.interval(0.9)


def test_moving_keeps_every_field() -> None:
    moved = ensemble().to("cpu")
    assert moved.samples is not None
    assert torch.equal(moved.samples, MEANS)
    assert moved.n_samples == 5


def test_no_rows_may_be_picked() -> None:
    prediction = mcdrop.RegressionPrediction.from_mean_std([1.0, 2.0], 1.0)
    assert len(prediction[[]]) == 0


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.array([2, 0, 1], dtype=np.uint8), [3.0, 1.0, 2.0]),
        (np.array([2, 0, 1], dtype=np.uint64), [3.0, 1.0, 2.0]),
        (np.array([-1], dtype=np.int8), [3.0]),
        (np.array([True, False, True]), [1.0, 3.0]),
        (slice(None, None, -1), [3.0, 2.0, 1.0]),
        (slice(2, 0, -1), [3.0, 2.0]),
        (slice(1, None), [2.0, 3.0]),
    ],
)
def test_rows_are_picked_as_numpy_picks_them(rows: Any, expected: list[float]) -> None:
    index = pd.Index(["a", "b", "c"])
    prediction = mcdrop.RegressionPrediction.from_mean_std([1.0, 2.0, 3.0], 1.0)
    part = dataclasses.replace(prediction, index=index)[rows]
    assert part.mean.tolist() == np.array([1.0, 2.0, 3.0])[rows].tolist() == expected
    assert part.index.equals(index[rows])
