from __future__ import annotations

import torch

from mcdrop.cli.demonstration import demonstration


def test_it_is_the_same_each_time_and_leaves_the_callers_random_numbers_alone() -> None:
    state = torch.random.get_rng_state()
    first, y, baselines = demonstration()
    assert torch.equal(torch.random.get_rng_state(), state)
    second, _, _ = demonstration()
    assert torch.equal(first.mean, second.mean)
    assert len(first) == len(y) == 89
    assert set(baselines) == {"Ridge", "Dropout off"}
    # Better than the mean of the targets, whose error is their standard deviation.
    error = (first.mean - y).square().mean().sqrt()
    assert error < 0.9 * y.std()
