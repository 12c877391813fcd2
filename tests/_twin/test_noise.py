"""Noise is followed to where it meets data, and answered by its expectation there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcdrop._live.memory import address
from mcdrop._twin.noise import NoiseFollower, SharedWriteError

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def follower(*protected: Tensor) -> NoiseFollower:
    return NoiseFollower(["", "block"], frozenset(map(address, protected)))


def test_a_mask_made_in_steps_is_dropout() -> None:
    with follower() as seen:
        noise = torch.empty(4, 1).bernoulli_(0.75)
        found = X * noise.div_(0.75)
    torch.testing.assert_close(found, X)
    (draw,) = seen.draws
    assert (draw.kind, draw.path, draw.callers) == ("bernoulli", "block", ("", "block"))
    assert draw.line.startswith("test_noise.py:")
    assert draw.meets == {"mask"}


def test_a_mask_written_in_place_is_dropout() -> None:
    x = X.clone()
    with follower() as seen:
        x.mul_(torch.bernoulli(torch.full_like(x, 0.5)) * 2)
    torch.testing.assert_close(x, X)
    assert seen.draws[0].meets == {"mask"}


def test_a_random_selection_keeps_everything() -> None:
    with follower() as seen:
        found = X[torch.rand(4) >= 0.3]
    torch.testing.assert_close(found, X)
    assert seen.draws[0].meets == {"mask"}


def test_additive_noise_is_none() -> None:
    with follower() as seen:
        found = X + torch.randn_like(X) * 0.1
    torch.testing.assert_close(found, X)
    assert seen.draws[0].meets == {"noise"}


def test_code_that_reads_a_number_branches() -> None:
    with follower() as seen:
        if torch.rand([]) < 2:
            pass
    assert {path for path, _ in seen.branches} == {"block"}
    assert seen.draws[0].meets == {"branch"}


def test_integers_computed_with_noise_are_unknown() -> None:
    with follower() as seen:
        _ = torch.arange(6) + torch.randint(0, 3, (6,))
        _ = X.long() + torch.randint(0, 3, (4, 6))
    assert seen.draws[1].meets == {"unknown"}


def test_native_dropout_is_answered_without_a_draw() -> None:
    with follower() as seen:
        found, mask = torch.native_dropout(X, 0.5, True)
        torch.native_dropout(X, 0.5, False)
    torch.testing.assert_close(found, X)
    assert bool(mask.all())
    assert [draw.meets for draw in seen.draws] == [{"mask"}]


def test_nothing_is_seen_while_paused() -> None:
    with follower() as seen:
        seen.paused = True
        torch.rand(3)
    assert seen.draws == []


def test_writes_to_protected_memory_are_refused() -> None:
    weight = X.clone()
    with pytest.raises(SharedWriteError, match="mul_ writes"), follower(weight):
        weight[0].mul_(2)
    torch.testing.assert_close(weight, X)
