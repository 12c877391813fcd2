"""The memory of a wrapper: the latest finds, and none of them elsewhere."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from mcdrop._engine import plan as module
from mcdrop._engine.plan import Memory, Plan


def test_what_was_kept_is_recalled() -> None:
    memory = Memory()
    assert memory.recall("a") is None
    memory.keep("a", 1)
    memory.keep("b", 2)
    memory.keep("a", 3)
    assert (memory.recall("a"), memory.recall("b"), len(memory)) == (3, 2, 2)


def test_the_least_recently_used_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    memory = Memory()
    for key in "abc":
        memory.keep(key, key)
    memory.recall("a")
    memory.keep("b", "again")
    memory.keep("d", "d")
    # Both asking and keeping count as use, so that "c" is the oldest.
    assert [memory.recall(key) for key in "abcd"] == ["a", "again", None, "d"]
    assert len(memory) == 3


def test_asking_for_what_is_not_there_keeps_nothing() -> None:
    memory = Memory()
    memory.recall("a")
    assert len(memory) == 0


@pytest.mark.parametrize("remake", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_remembers_nothing(remake: Callable[[Any], Any]) -> None:
    memory = Memory()
    memory.keep("a", lambda: None)
    memory.count_units(7)
    other = remake(memory)
    assert len(other) == 0
    assert other.recall("a") is None
    assert other.count_units(0) == 0
    other.keep("b", 1)
    assert (len(memory), len(other)) == (1, 1)
    assert memory.recall("a") is not None


def test_units_add_up() -> None:
    memory = Memory()
    assert [memory.count_units(n) for n in (3, 0, 4)] == [3, 3, 7]


def test_a_plan_is_a_value() -> None:
    assert Plan() == Plan()
    assert dataclasses.replace(Plan(), chunk=2) != Plan()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Plan().chunk = 2  # type: ignore[misc]
