"""The record of a run: plain enough for JSON, and the same after it."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from mcdrop._engine.record import Run
from mcdrop._live.sites import DropoutSite
from tests.passes import draw

SITES = (
    DropoutSite("drop", "dropout", 0.5, 0, (4, 6), True),
    DropoutSite("drop#2", "dropout2d", 0.0, 1, (), False, 0.25),
)
RUN = Run(
    "vectorized", "a reason", 100, 2**61, "shared", False, SITES, None, 64, "cpu", "float32", 0.5
)


def test_a_record_survives_json() -> None:
    text = json.dumps(RUN.to_dict())
    again = Run.from_dict(json.loads(text))
    assert again == RUN
    assert isinstance(again.sites, tuple)
    assert [type(site.shape) for site in again.sites] == [tuple, tuple]


def test_what_a_newer_version_has_added_is_left_out() -> None:
    assert Run.from_dict({**RUN.to_dict(), "colour": "green"}) == RUN


def test_what_is_missing_is_named() -> None:
    record = RUN.to_dict()
    del record["masks"]
    with pytest.raises(KeyError, match="masks"):
        Run.from_dict(record)


def test_a_record_of_an_earlier_version_lacks_what_came_later() -> None:
    record = RUN.to_dict()
    del record["depends_on_batches"], record["watched"]
    assert Run.from_dict(record).depends_on_batches == ""


def test_the_record_of_a_run_survives_as_well() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 1))
    _, run = draw(net, torch.ones(3, 4), 5)
    assert Run.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_a_record_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RUN.seed = 1  # type: ignore[misc]
