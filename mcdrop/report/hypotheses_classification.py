"""What a calibrated classification would satisfy, tested.

If labels are drawn from the predicted probabilities, each row is right with probability equal to
its confidence, independently of the others.
"""

from __future__ import annotations

from mcdrop.report.classification import Classification
from mcdrop.report.hypotheses import Hypothesis, permutation_p_value, sum_p_value

__all__ = ["classification_hypotheses"]


def classification_hypotheses(c: Classification, seed: int) -> dict[str, Hypothesis]:
    """Test what the page states about one classification."""
    found = {
        "confidence": Hypothesis(
            "accuracy equals mean confidence",
            sum_p_value(c.confidence, len(c.y) - int(c.wrong.sum())),
        ),
        "reliability": Hypothesis(
            "accuracy equals confidence in every bin", c.calibrated.p_value(c.error.value)
        ),
    }
    if 0 < c.wrong.sum() < len(c.y):
        entropy = c.prediction.predictive_entropy.numpy()
        _, p_value = permutation_p_value(entropy, c.wrong.numpy(), seed)
        found["ranking"] = Hypothesis("errors do not depend on the predictive entropy", p_value)
    return found
