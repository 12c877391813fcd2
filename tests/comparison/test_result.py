"""A comparison shows itself as table, Markdown and picture."""

from __future__ import annotations

import numpy as np

from mcdrop import Comparison, compare
from mcdrop.baselines import Ridge


def test_every_view_shows_the_same_methods() -> None:
    X = np.random.default_rng(0).normal(size=(40, 2))
    found = compare(X, X[:, 0] ** 2, {"a": Ridge(1.0), "b": Ridge(10.0)}, task="regression", cv=3)
    assert isinstance(found, Comparison)
    assert set(found.to_pandas()["method"]) == {"a", "b"}
    assert "| a |" in found.to_markdown()
    assert found._repr_markdown_() == found.to_markdown()
    assert found.plot().axes[0].get_yticklabels()[0].get_text() == "b"
