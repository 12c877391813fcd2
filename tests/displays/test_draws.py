from __future__ import annotations

import numpy as np

from mcdrop.displays._draws import Draws
from mcdrop.metrics import bootstrap, rmse


def test_the_bootstrap_is_that_of_the_metrics_with_these_settings() -> None:
    a, b = np.arange(20.0), np.arange(20.0) ** 1.1
    expected = bootstrap(rmse, a, b, level=0.8, n_resamples=30, seed=4)
    assert Draws(0.8, 30, 4).bootstrap(rmse, a, b) == expected
