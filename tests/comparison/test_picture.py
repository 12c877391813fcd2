"""The picture draws each difference where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mcdrop import compare
from mcdrop.baselines import Ridge
from mcdrop.errors import UnsupportedError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = X[:, 0] + RNG.normal(size=60)
METHODS: dict[str, Any] = {
    "Ridge": Ridge(),
    "Strong": Ridge(alpha=1e3),
    "Point": lambda X, y, X_test: X_test[:, 0],
}
FOUND = compare(X, Y, METHODS, task="regression")


def test_each_difference_is_drawn_with_its_interval() -> None:
    figure = FOUND.plot()
    assert [axes.get_title() for axes in figure.axes] == ["RMSE", "NLL", "CRPS"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["Strong", "Point"]
    lines = [line.get_xdata() for line in figure.axes[0].lines]
    estimate = FOUND.differences["Strong"]["rmse"].estimate
    assert any(np.array_equal(x, (estimate.low, estimate.high)) for x in lines)
    top, bottom = (figure.axes[0].transData.transform((0, row))[1] for row in (0, 1))
    assert top > bottom, "the first method is on top"
    assert [text.get_text().strip() for text in figure.axes[1].texts] == ["not stated"]


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UnsupportedError, match=r'Comparison.plot.*pip install "mcdrop\[report\]"'):
        FOUND.plot()
