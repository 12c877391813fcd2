"""Sums over bins: edges, ties and weights, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop.metrics._bins import (
    Forecasts,
    binned,
    membership,
    quantile_sums,
    take_forecasts,
    uniform_sums,
)

RNG = np.random.default_rng(0)
P = np.round(RNG.uniform(size=40), 1)
EVENT = RNG.integers(0, 2, 40).astype(float)
WEIGHTS = RNG.uniform(size=40)


def test_uniform_bins_are_closed_on_the_right() -> None:
    edges = np.array([0.0, 0.25, 0.5, 1.0])
    sums = uniform_sums(P, EVENT, WEIGHTS, edges)
    for b in range(3):
        rows = [i for i, p in enumerate(P) if edges[b] < p <= edges[b + 1] or (b == 0 and p == 0)]
        want = [
            sum(WEIGHTS[i] for i in rows),
            sum(WEIGHTS[i] * P[i] for i in rows),
            sum(WEIGHTS[i] * EVENT[i] for i in rows),
            sum(WEIGHTS[i] * (P[i] - EVENT[i]) ** 2 for i in rows),
        ]
        assert sums[:, b] == pytest.approx(want)


def test_rounding_beyond_the_ends_falls_into_the_outermost_bins() -> None:
    ones, edges = np.ones(2), np.array([0.0, 0.25, 0.5, 1.0])
    beyond = np.array([-1e-9, 1 + 1e-9])
    assert uniform_sums(beyond, ones, ones, edges)[0].tolist() == [1.0, 0.0, 1.0]
    member = membership(beyond, n_bins=3, binning="uniform", dtype=torch.float64)
    assert member.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


def test_quantile_bins_share_ties_evenly_by_hand() -> None:
    # Sorted forecasts 0.1, 0.5, 0.5, 0.5, 0.5, 0.9 in three pairs; the four at 0.5 hold two events,
    # half an event each.
    forecast = np.array([0.5, 0.1, 0.5, 0.9, 0.5, 0.5])
    event = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    sums, edges = quantile_sums(forecast, event, np.ones(6), 3)
    assert sums[0].tolist() == [2.0, 2.0, 2.0]
    assert sums[2].tolist() == [0.5, 1.0, 1.5]
    assert edges.tolist() == [0.1, 0.5, 0.5, 0.9]


def test_order_of_rows_decides_nothing() -> None:
    order = RNG.permutation(40)
    one, _ = quantile_sums(P, EVENT, WEIGHTS, 7)
    two, _ = quantile_sums(P[order], EVENT[order], WEIGHTS[order], 7)
    np.testing.assert_allclose(one, two)


def test_both_binnings_keep_the_totals() -> None:
    forecasts = Forecasts(P[None], EVENT[None], WEIGHTS, torch.float64)
    for binning in ("uniform", "quantile"):
        total = binned(
            "f", forecasts, lambda sums, edges: sums.sum(axis=2), n_bins=6, binning=binning
        ).result()
        want = [WEIGHTS.sum(), WEIGHTS @ P, WEIGHTS @ EVENT, WEIGHTS @ (P - EVENT) ** 2]
        np.testing.assert_allclose(total[0], want)


def test_kinds_of_forecast() -> None:
    probs, y = [[0.2, 0.8], [0.7, 0.3]], [1, 1]
    top = take_forecasts("f", probs, y, "top_label")
    assert top.forecast.tolist() == [[0.8, 0.7]]
    assert top.event.tolist() == [[1.0, 0.0]]
    each = take_forecasts("f", probs, y, "classwise")
    assert each.forecast.tolist() == [[0.2, 0.7], [0.8, 0.3]]
    assert each.event.tolist() == [[0.0, 0.0], [1.0, 1.0]]
