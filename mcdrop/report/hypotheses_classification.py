"""What a calibrated classification would satisfy, tested.

If labels are drawn from the predicted probabilities, each row is right with probability equal to
its confidence, independently of the others.
"""

from __future__ import annotations

import numpy as np

from mcdrop.displays._classification import Classification
from mcdrop.metrics import calibration_test, confidence_test, ranking_test
from mcdrop.report.hypotheses import Hypothesis

__all__ = ["classification_hypotheses"]


def classification_hypotheses(c: Classification, seed: int) -> dict[str, Hypothesis]:
    """Test what the page states about one classification."""
    probs, y = c.prediction.probs, c.y
    found = {
        "confidence": Hypothesis(
            "accuracy equals mean confidence", confidence_test(probs, y).p_value
        ),
        "reliability": Hypothesis(
            "accuracy equals confidence at every height of confidence",
            calibration_test(probs, y, seed=seed).p_value,
        ),
    }
    same = np.ptp(c.uncertainty) <= 1e-6 * c.uncertainty.max()
    if 0 < c.wrong.sum() < len(y) and not same:
        found["ranking"] = Hypothesis(
            "errors do not depend on the predictive entropy",
            ranking_test(c.prediction.predictive_entropy, loss=c.wrong, seed=seed).p_value,
        )
    return found
