"""Scores of single rows, and taking the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mcdrop
from mcdrop.acquisition import bald, max_entropy, max_variance, top_k, variation_ratio
from mcdrop.baselines import BayesianRidge, Deterministic
from tests.acquisition.passes import NET, X, prediction_of, shared

Score = Callable[[Any], torch.Tensor]
CLASS_SCORES: list[Score] = [bald, max_entropy, variation_ratio]

# Row 0: passes agree on a fair coin. Row 1: passes are certain of opposite classes. Row 2: sure.
COINS = np.array(
    [
        [[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]],
        [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]],
    ]
)


def test_bald_seeks_disagreement_and_entropy_any_doubt() -> None:
    p, log2 = prediction_of(COINS), np.log(2)
    # H[mean] is log 2 in rows 0 and 1; the mean entropy of a pass is log 2 in row 0, 0 in row 1.
    np.testing.assert_allclose(max_entropy(p), [log2, log2, 0], atol=1e-12)
    np.testing.assert_allclose(bald(p), [0, log2, 0], atol=1e-12)
    np.testing.assert_allclose(variation_ratio(p), [0, 0.5, 0], atol=1e-12)


def test_max_variance_is_the_epistemic_part_averaged_over_outputs() -> None:
    x = torch.randn(7, 4)
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    mc = mcdrop.wrap(net, stratified=False)
    p = mc.predict_with_uncertainty(x, noise_std=3.0, seed=0, keep_samples=True)
    assert p.samples is not None
    expected = p.samples.double().var(dim=0).mean(dim=1)
    torch.testing.assert_close(max_variance(p).double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("score", CLASS_SCORES)
def test_every_score_has_one_value_per_row(score: Score) -> None:
    assert score(shared()).shape == (30,)
    pixels = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Dropout2d(0.5))
    p = mcdrop.predict_with_uncertainty(pixels, torch.randn(2, 1, 4, 5), task="classification")
    assert score(p).shape == (2,)
    torch.testing.assert_close(bald(p), p.mutual_information.mean(dim=(1, 2)))


def test_top_k_takes_the_best_first_and_the_earlier_of_equals() -> None:
    scores = [0.2, 0.9, 0.5, 0.9, 0.1]
    for given_as in (torch.tensor(scores), np.array(scores), scores):
        assert top_k(given_as, 4).tolist() == [1, 3, 2, 0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.data())
def test_no_row_left_out_scores_higher(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    rows = top_k(np.array(scores), k).tolist()
    assert len(set(rows)) == k
    rest = [scores[row] for row in range(len(scores)) if row not in rows]
    assert not rest or min(scores[row] for row in rows) >= max(rest)


def test_scores_without_spread_are_refused_but_closed_forms_pass() -> None:
    still: Any = Deterministic(NET, task="classification").predict(X)
    for score in (bald, variation_ratio):
        with pytest.raises(mcdrop.RangeError, match=r"spread between passes.*live dropout"):
            score(still)
    assert max_entropy(still).shape == (30,)
    y = X[:, 0].numpy() + 1.0
    assert max_variance(BayesianRidge().fit(X.numpy(), y).predict(X.numpy())).min() > 0


def test_predictions_of_the_other_kind_are_refused() -> None:
    regression = mcdrop.predict_with_uncertainty(NET, X, task="regression", seed=0)
    for score in CLASS_SCORES:
        with pytest.raises(mcdrop.UnsupportedError, match="Rank regressions by max_variance"):
            score(regression)
    with pytest.raises(mcdrop.UnsupportedError, match="Rank classifications by bald"):
        max_variance(shared())  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [0, -1, 2.0, True])
def test_k_is_a_count(k: Any) -> None:
    with pytest.raises(mcdrop.RangeError, match=r"top_k: expected `k` to be an integer of at"):
        top_k(torch.zeros(3), k)


def test_bad_scores_are_refused() -> None:
    with pytest.raises(mcdrop.RangeError, match=r"`k` to be at most 3, the number of rows"):
        top_k(torch.zeros(3), 4)
    with pytest.raises(mcdrop.ShapeError, match=r"`scores` to have shape \(N,\), but got \(3, 1\)"):
        top_k(torch.zeros(3, 1), 1)
    with pytest.raises(mcdrop.NonFiniteError, match=r"NaN or infinity in rows 1, 2"):
        top_k(torch.tensor([0.0, torch.nan, torch.inf]), 1)
