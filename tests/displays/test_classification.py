from __future__ import annotations

import numpy as np
import pytest

from mcdrop.displays._classification import Classification
from mcdrop.displays._draws import Draws
from mcdrop.displays._matching import matched_classification
from tests.report.made import class_prediction


def judged(**options: float) -> Classification:
    prediction, y = class_prediction(**options)  # type: ignore[arg-type]
    return matched_classification({"A": prediction}, y, Draws(0.95, 10, 0))["A"]


def test_errors_confidence_and_entropy_are_those_of_the_rows() -> None:
    c = judged(n=50)
    probs = c.prediction.probs.numpy()
    np.testing.assert_array_equal(c.wrong.numpy(), probs.argmax(1) != c.y.numpy())
    np.testing.assert_array_equal(c.confidence, probs.max(1))
    assert c.uncertainty == pytest.approx(-(probs * np.log(probs)).sum(1))


def test_the_debiased_error_is_near_0_if_calibrated_and_grows_if_not() -> None:
    assert judged(n=2000).debiased_error < 0.02
    assert judged(n=2000, sharpen=3.0).debiased_error > 0.1
