"""One call wraps and predicts: the same numbers as in two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mcdrop

NET = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 2))
X = torch.ones(4, 3)


def test_one_call_is_wrapping_and_predicting() -> None:
    two = mcdrop.wrap(NET, p=0.4, masks="shared", stratified=False).predict_with_uncertainty(
        X, task="classification", seed=1
    )
    one = mcdrop.predict_with_uncertainty(
        NET, X, p=0.4, masks="shared", stratified=False, task="classification", seed=1
    )
    assert torch.equal(one.probs, two.probs)
    assert one.run is not None
    assert one.run.masks == "shared"


def test_the_task_is_asked_for_as_in_two_calls() -> None:
    with pytest.raises(mcdrop.RangeError, match="`task` to be named"):
        mcdrop.predict_with_uncertainty(NET, X)
    assert mcdrop.predict_with_uncertainty(NET, X, select=lambda y: y[:, 0]).mean.shape == (4,)
