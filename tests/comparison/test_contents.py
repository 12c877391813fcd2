"""What a comparison answers, built by hand from p-values and scores."""

from __future__ import annotations

from typing import Any

import pytest

from mcdrop.comparison.contents import ComparisonContents
from mcdrop.errors import RangeError, UnsupportedError
from mcdrop.metrics import Estimate


def made(
    scores: dict[str, float], pairs: dict[tuple[str, str], float], **changes: Any
) -> ComparisonContents:
    estimates = {
        name: {"accuracy": Estimate(value, value, value, 0.0, 0.95, 5, "")}
        for name, value in scores.items()
    }
    values: dict[str, Any] = {
        "task": "classification", "methods": tuple(scores), "n_rows": 9, "n_splits": 5,
        "test_share": 0.25, "level": 0.95, "metrics": estimates, "differences": {}, "adjusted": {},
        "outcomes": {}, "pairs": {"accuracy": pairs}, "ranks": {}, "seconds": {}, "losses": {},
        "ensemble": {},
    }  # fmt: skip
    return ComparisonContents(**{**values, **changes})


SCORES = {"a": 0.9, "b": 0.8, "c": 0.7}


@pytest.mark.parametrize(
    ("ab", "ac", "bc", "winner", "leaders"),
    [
        (0.01, 0.01, 0.9, "a", ("a",)),
        (0.06, 0.01, 0.9, None, ("a", "b")),
        (0.06, 0.06, 0.06, None, ("a", "b", "c")),
        # b beats c, and a is not told from either: nobody has beaten all others.
        (0.9, 0.9, 0.01, None, ("a", "b")),
    ],
)
def test_a_winner_beats_every_other_beyond_the_noise(
    ab: float, ac: float, bc: float, winner: str | None, leaders: tuple[str, ...]
) -> None:
    found = made(SCORES, {("a", "b"): ab, ("a", "c"): ac, ("b", "c"): bc})
    assert found.winner("accuracy") == winner
    assert found.leaders("accuracy") == leaders


def test_mistakes_are_named() -> None:
    found = made(SCORES, {})
    with pytest.raises(RangeError, match='`metric` to be one of "accuracy"'):
        found.winner("rmse")
    with pytest.raises(UnsupportedError, match="'nll'; there are none"):
        made(SCORES, {}, losses={"a": {}}).ensemble_equivalent("a")
