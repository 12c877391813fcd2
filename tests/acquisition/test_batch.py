"""BatchBALD against enumeration, and the laws of joint information."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mcdrop
from mcdrop.acquisition import bald, batch_bald, top_k
from tests.acquisition.passes import (
    NET,
    X,
    joint_information,
    permuted,
    prediction_of,
    random_passes,
    shared,
)


def test_one_row_is_bald() -> None:
    p = shared()
    chosen = batch_bald(p, 1)
    assert chosen.rows.tolist() == top_k(bald(p), 1).tolist()
    # `bald` works on probabilities rounded to float32.
    torch.testing.assert_close(chosen.scores, bald(p)[chosen.rows].double(), rtol=1e-5, atol=1e-6)
    assert chosen.mcse.tolist() == [0.0]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_joint_scores_equal_enumeration_and_every_step_is_the_greedy_one(n_classes: int) -> None:
    passes = random_passes(12, 8, n_classes)
    chosen = batch_bald(prediction_of(passes), 4)
    rows = chosen.rows.tolist()
    for step in range(4):
        rest = set(range(8)) - set(rows[:step])
        joint = {row: joint_information(passes, [*rows[:step], row]) for row in rest}
        assert rows[step] == max(joint, key=lambda row: joint[row])
        assert chosen.scores[step].item() == pytest.approx(joint[rows[step]], abs=1e-12)
    assert chosen.mcse.tolist() == [0.0] * 4


def test_greedy_keeps_its_guarantee_against_the_best_batch() -> None:
    passes = random_passes(10, 7, 2, seed=3)
    best = max(
        joint_information(passes, list(rows)) for rows in itertools.combinations(range(7), 3)
    )
    assert batch_bald(prediction_of(passes), 3).scores[-1].item() >= (1 - 1 / math.e) * best


def test_sampled_scores_agree_with_enumeration_within_their_standard_error() -> None:
    # 3^5 = 243 configurations exceed n_mc, so rows 6 and 7 are scored by sampling.
    passes = random_passes(40, 9, 3, seed=1)
    p = prediction_of(passes)
    chosen = [batch_bald(p, 7, n_mc=200, seed=seed) for seed in range(12)]
    exact: dict[frozenset[int], float] = {}
    z = []
    for one in chosen:
        assert one.mcse[:5].tolist() == [0.0] * 5
        assert bool((one.mcse[5:] > 0).all())
        rows = frozenset(one.rows.tolist())
        if rows not in exact:
            exact[rows] = joint_information(passes, sorted(rows))
        z.append((one.scores[-1].item() - exact[rows]) / one.mcse[-1].item())
    # The standard error is an upper estimate, so z has mean 0 and varies by less than 1, yet not
    # by far: equally many configurations per pass remove the differences between passes only.
    assert np.abs(z).max() < 4
    assert abs(np.mean(z)) < 4 / 12**0.5
    assert 0.3 < np.std(z) < 1.5


def test_sampling_approaches_enumeration_as_configurations_are_added() -> None:
    passes = random_passes(30, 9, 3, seed=2)
    p = prediction_of(passes)
    exact = batch_bald(p, 7)
    coarse, fine = (batch_bald(p, 7, n_mc=n_mc, seed=0) for n_mc in (30, 700))
    assert exact.mcse[-1] == 0
    assert coarse.mcse[-1] > fine.mcse[-1] > 0
    assert abs(fine.scores[-1] - exact.scores[-1]) < 4 * fine.mcse[-1] + 1e-3


def test_copies_of_a_row_are_passed_over_where_top_k_takes_them_all() -> None:
    # Passes are sure, so that one label of the copied row says all that it can say.
    rng = np.random.default_rng(0)
    passes = np.eye(2)[rng.integers(2, size=(64, 6))]
    passes = 0.999 * passes + 0.0005
    passes[:, 0, 0] = np.arange(64) % 2 * 0.998 + 0.001  # row 0: the passes split in halves
    passes[:, 0, 1] = 1 - passes[:, 0, 0]
    passes = np.concatenate([passes[:, :1]] * 4 + [0.9 * passes[:, 1:] + 0.05], axis=1)
    p = prediction_of(passes)
    assert set(top_k(bald(p), 4).tolist()) == {0, 1, 2, 3}
    chosen = batch_bald(p, 4)
    assert sum(row < 4 for row in chosen.rows.tolist()) == 1
    copies = batch_bald(p[:4], 4).scores
    assert copies[0] > 0.68  # nearly log 2
    assert copies[-1] - copies[0] < 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**20), st.integers(2, 20), st.integers(2, 4), st.sampled_from([2, 10_000]))
def test_scores_rise_by_ever_less_and_stay_below_log_passes(
    seed: int, n_passes: int, n_classes: int, n_mc: int
) -> None:
    chosen = batch_bald(prediction_of(random_passes(n_passes, 6, n_classes, seed)), 6, n_mc=n_mc)
    assert sorted(chosen.rows.tolist()) == list(range(6))
    gains = chosen.scores.diff(prepend=torch.zeros(1))
    assert gains.min() >= -1e-12
    assert chosen.scores[-1] <= math.log(n_passes) + 4 * chosen.mcse[-1] + 1e-12
    if n_mc > 4**5:
        assert gains.diff().max() <= 1e-12  # diminishing returns: submodularity


def test_order_of_passes_and_rows_changes_nothing() -> None:
    p = shared()
    chosen = batch_bald(p, 5)
    for seed in range(3):
        again = batch_bald(permuted(p, seed), 5)
        assert again.rows.tolist() == chosen.rows.tolist()
        torch.testing.assert_close(again.scores, chosen.scores, rtol=1e-10, atol=1e-12)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert order[batch_bald(p[order], 5).rows].tolist() == chosen.rows.tolist()


def test_skipping_rows_by_their_bounds_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    p = shared()
    whole = batch_bald(p, 6)
    monkeypatch.setattr("mcdrop.acquisition.batch._BLOCK_ELEMENTS", 1)  # one row at a time
    by_row = batch_bald(p, 6)
    assert by_row.rows.tolist() == whole.rows.tolist()
    torch.testing.assert_close(by_row.scores, whole.scores, rtol=1e-10, atol=1e-12)


def test_impossible_labels_do_no_harm() -> None:
    passes = np.zeros((8, 4, 3))
    sure = np.arange(8)
    for row in range(3):
        passes[sure, row, (sure >> row) & 1] = 1.0  # row i tells bit i of the pass's number
    passes[:, 3, 2] = 1.0
    for n_mc in (2, 10_000):
        chosen = batch_bald(prediction_of(passes), 4, n_mc=n_mc)
        # Each bit is worth log 2 whatever was seen before; the sure row is worth nothing.
        expected = np.log(2) * np.array([1, 2, 3, 3])
        np.testing.assert_allclose(chosen.scores, expected, atol=1e-9)
        assert chosen.rows[-1] == 3


def test_seeded_and_without_touching_the_global_generator() -> None:
    p, torch_state = shared(), torch.get_rng_state()
    numpy_state = np.random.get_state(legacy=False)["state"]["key"]
    first, again, other = (batch_bald(p, 6, n_mc=50, seed=seed) for seed in (1, 1, 2))
    assert first.rows.tolist() == again.rows.tolist()
    assert first.scores.tolist() == again.scores.tolist()
    assert first.scores.tolist() != other.scores.tolist()
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_state)


def test_predictions_without_a_run_are_taken_as_one_function_per_sample() -> None:
    p = shared()
    members = replace(p, run=None)
    assert batch_bald(members, 3).rows.tolist() == batch_bald(p, 3).rows.tolist()


def test_independent_masks_are_refused() -> None:
    p = mcdrop.predict_with_uncertainty(NET, X, task="classification", keep_samples=True)
    with pytest.raises(
        mcdrop.UnsupportedError, match=r"one function per pass, but got independent"
    ):
        batch_bald(p, 3)


def test_what_cannot_be_scored_jointly_is_refused() -> None:
    p = shared()
    with pytest.raises(mcdrop.OutputError, match=r"got None\. Predict with keep_samples=True"):
        batch_bald(replace(p, samples=None), 3)
    pixels = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Dropout2d(0.5))
    image = mcdrop.wrap(pixels, masks="shared").predict_with_uncertainty(
        torch.randn(2, 1, 4, 5), task="classification", keep_samples=True
    )
    with pytest.raises(mcdrop.ShapeError, match=r"shape \(S, N, C\), but got \(100, 2, 3, 4, 5\)"):
        batch_bald(image, 1)
    regression: Any = mcdrop.predict_with_uncertainty(NET, X, task="regression", seed=0)
    with pytest.raises(mcdrop.UnsupportedError, match="ClassificationPrediction, but got Regr"):
        batch_bald(regression, 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"k": 0}, r"`k` to be an integer of at least 1"),
        ({"k": 31}, r"`k` to be at most 30, the number of rows, but got 31"),
        ({"k": 2, "n_mc": 1}, r"`n_mc` to be an integer of at least 2"),
    ],
)
def test_counts_out_of_range_are_refused(options: dict[str, int], text: str) -> None:
    with pytest.raises(mcdrop.RangeError, match=text):
        batch_bald(shared(), **options)
