"""What becomes of the shares when the average probabilities change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcdrop.recalibration._mean_probs import _quotient, with_mean_probs
from tests.recalibration.cases import assert_splits_add_up, averaged, from_passes, softmax


@given(st.integers(0, 10**6))
def test_shares_are_kept_for_any_new_probabilities(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = from_passes(softmax(rng.normal(size=(6, 5, 3))))
    new = torch.from_numpy(rng.dirichlet(np.ones(3), 5))
    changed = with_mean_probs(p, new)
    assert_splits_add_up(changed)
    torch.testing.assert_close(changed.probs, new)
    torch.testing.assert_close(
        changed.expected_entropy / changed.predictive_entropy,
        p.expected_entropy / p.predictive_entropy,
    )
    torch.testing.assert_close(
        changed.probs_std.square() / (new * (1 - new)),
        p.probs_std.square() / (p.probs * (1 - p.probs)),
    )
    assert changed.samples is None


def test_certainty_has_nothing_epistemic() -> None:
    changed = with_mean_probs(averaged([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]).double())
    torch.testing.assert_close(changed.expected_entropy, changed.predictive_entropy)
    assert changed.probs_std.tolist() == [[0, 0]]
    sure = with_mean_probs(averaged([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]).double())
    assert sure.expected_entropy.tolist() == [0]


def test_a_share_of_rounding_above_one_is_one() -> None:
    # float32 passes that all agree: an expected entropy a digit above that of their mean.
    p = averaged([[0.7, 0.3]])
    above = replace(p, expected_entropy=p.expected_entropy * (1 + 1e-6))
    changed = with_mean_probs(above, torch.tensor([[0.6, 0.4]]).double())
    assert (changed.expected_entropy <= changed.predictive_entropy).all()


def test_a_ratio_to_nothing_is_nothing() -> None:
    found = _quotient(torch.tensor([3.0, 3.0, 0.0]), torch.tensor([2.0, 0.0, 0.0]))
    assert found.tolist() == [1.5, 0, 0]
