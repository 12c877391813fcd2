"""Maximum likelihood within bounds."""

from __future__ import annotations

import numpy as np
import pytest

import mcdrop
from mcdrop.recalibration._likelihood import Floats, most_likely


def test_a_parabola_has_its_vertex_or_the_bound() -> None:
    def loss(x: Floats) -> tuple[float, Floats]:
        return 1 + float(((x - [2.0, -1.0]) ** 2).sum()), 2 * (x - [2.0, -1.0])

    np.testing.assert_allclose(most_likely("f", loss, [0.0, 0.0], [-9.0, -9.0]), [2, -1], atol=1e-6)
    np.testing.assert_allclose(most_likely("f", loss, [0.0, 0.0], [-9.0, 0.0]), [2, 0], atol=1e-6)


def test_a_loss_that_falls_without_end_is_refused() -> None:
    with pytest.raises(mcdrop.RangeError, match="f: expected `y` to have a most likely map"):
        most_likely("f", lambda x: (float(-x.sum()), -np.ones_like(x)), [0.0], [-100.0])
    with pytest.raises(mcdrop.RangeError, match="some of them misclassified"):
        most_likely("f", lambda x: (float(np.exp(-x[0])), -np.exp(-x)), [0.0], [-100.0])
