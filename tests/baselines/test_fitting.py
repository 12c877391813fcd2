"""Every candidate is scored, and the best is trained on all rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mcdrop.baselines.fitting import Plan, fit_networks
from mcdrop.baselines.members import plain_predictions
from mcdrop.baselines.stacked import Training

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 2))
Y = X[:, 0] + 0.1 * RNG.normal(size=50)
PLAN = Plan("fit", (4,), "regression", (0.0,), (1e-4, 1e-2), 2, Training(max_epochs=2), seed=5)


def test_candidates_are_all_pairs_and_each_has_its_members() -> None:
    plan = replace(PLAN, rates=(0.1, 0.2))
    assert plan.candidates == [(0.1, 1e-4), (0.1, 1e-2), (0.2, 1e-4), (0.2, 1e-2)]
    found = fit_networks(plan, X, Y, lambda f, x: plain_predictions("regression", f, x))
    assert [(choice.p, choice.weight_decay) for choice in found.choices] == plan.candidates
    assert len(found.networks) == 2


def test_the_score_is_taken_on_rows_that_were_not_trained_on() -> None:
    seen: list[torch.Tensor] = []

    def predict(fitted: object, rows: torch.Tensor) -> object:
        seen.append(rows)
        return plain_predictions("regression", fitted, rows)  # type: ignore[arg-type]

    found = fit_networks(PLAN, X, Y, predict)  # type: ignore[arg-type]
    assert all(len(rows) == 10 for rows in seen), "a fifth of 50 rows"
    assert len(seen) == 2
    nll = min(choice.nll for choice in found.choices)
    assert found.chosen.nll == nll


def test_a_single_candidate_that_needs_no_noise_is_not_scored() -> None:
    plan = replace(PLAN, task="classification", weight_decays=(1e-4,))
    labels = (X[:, 0] > 0).astype(int)
    found = fit_networks(plan, X, labels, lambda f, x: pytest.fail("nothing to choose"))
    assert math.isnan(found.chosen.nll)
    assert found.noise_std is None
