"""The mode: answers what has a rule, in its own thread, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._live.call import Call, InPlaceError, Rule, TorchFunction
from mcdrop._live.last_layer import LastLayer
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules import live_rules
from mcdrop._masks.source import MaskSource, Span

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def call_with(rules: Mapping[TorchFunction, Rule], **options: Any) -> Call:
    return Call(rules, MaskSource(0, torch.device("cpu")), False, Span(), **options)


def test_functions_without_a_rule_run_unchanged() -> None:
    with LiveDropout(call_with({})):
        found = F.layer_norm(torch.relu(X), (6,)), F.dropout(X, 0.5, training=False), X.sum(dim=0)
    expected = F.layer_norm(torch.relu(X), (6,)), X, X.sum(dim=0)
    assert all(map(torch.equal, found, expected))


def test_a_rule_answers_with_the_mode_off() -> None:
    seen: list[Any] = []

    def rule(call: Call, func: TorchFunction, args: Any, kwargs: Any) -> Tensor:
        seen.append((call, func, args, kwargs))
        return func(*args, **kwargs) + 1

    call = call_with({torch.sigmoid: rule})
    with LiveDropout(call):
        found = torch.sigmoid(X)
    assert torch.equal(found, torch.sigmoid(X) + 1)
    assert seen == [(call, torch.sigmoid, (X,), {})]


def test_other_threads_do_not_see_it() -> None:
    found: list[Tensor] = []

    def other() -> None:
        found.append(F.dropout(X, 0.5, training=False))

    with LiveDropout(call_with(live_rules())):
        here = F.dropout(X, 0.5, training=False)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert torch.equal(found[0], X)
    assert not torch.equal(here, X)


def test_it_ends_with_the_block_also_after_an_exception() -> None:
    with pytest.raises(KeyError), LiveDropout(call_with(live_rules())):
        raise KeyError
    assert torch.equal(F.dropout(X, 0.5, training=False), X)


def test_what_an_in_place_dropout_left_alone_may_not_be_read() -> None:
    call = call_with({})
    stale = X.clone()
    call.seen.overwritten.append(stale)
    with LiveDropout(call):
        torch.relu(X)
        with pytest.raises(InPlaceError, match="reads a tensor after an in-place dropout"):
            torch.relu(stale)
        with pytest.raises(InPlaceError, match="reads a tensor after an in-place dropout"):
            torch.cat([X, stale])


def test_the_last_layer_watches_every_function() -> None:
    last = LastLayer(0)
    with LiveDropout(call_with({}, last=last)):
        held = last.hold(X, 0.5, None, by_element=True)
        torch.relu(X)
        _ = held.shape
        problems = [last.problem]
        torch.tanh(held)
        problems.append(last.problem)
    assert problems == ["", "its output goes to tanh, not to a linear layer"]
