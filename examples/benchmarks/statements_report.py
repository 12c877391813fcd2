"""How often a calibration report says something false of calibrated predictions.

    python examples/benchmarks/statements_report.py --json docs/data/statements_report.json

Targets are drawn from the predictions themselves, so that every fault that a report finds is a
false alarm. Only the verdicts are computed, with the functions that the report calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from record import arguments, circumstances, markdown, write
from scipy.stats import spearmanr

from mcdrop.displays._matching import matched_classification, matched_regression
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.report.classification import classification_scores
from mcdrop.report.hypotheses import comparisons, verdicts
from mcdrop.report.hypotheses_classification import classification_hypotheses
from mcdrop.report.hypotheses_regression import regression_hypotheses
from mcdrop.report.measures import Resampling
from mcdrop.report.regression import regression_scores
from mcdrop.report.slices import slice_hypothesis, slices_of

SIZES = (10, 20, 50, 200, 1000)
LEVEL = 0.95
# Scale of the logits of three classes, and the mean confidence it gives.
SHARPNESS = {"moderate (74 %)": 2.0, "confident (93 %)": 8.0, "almost certain (99 %)": 100.0}
# Rows of the interval of the ECE, whose truth is 0.
ECE_SIZES = (50, 500)


def normal(mean: torch.Tensor, std: torch.Tensor) -> RegressionPrediction:
    """A normal prediction in closed form."""
    zero = torch.zeros_like(mean)
    return RegressionPrediction(
        mean=mean, epistemic_variance=zero, aleatoric_variance=std.square(), mcse=zero,
        n_samples=0, family="normal",
    )  # fmt: skip


def drawn_classes(n: int, scale: float, seed: int) -> tuple[ClassificationPrediction, torch.Tensor]:
    """Probabilities of three classes, and labels drawn from them."""
    draw = torch.Generator().manual_seed(seed)
    probs = (scale * torch.randn(n, 3, generator=draw, dtype=torch.float64)).softmax(dim=1)
    y = torch.multinomial(probs, 1, generator=draw).squeeze(1)
    zero = torch.zeros_like(probs)
    prediction = ClassificationPrediction(
        probs=probs, probs_std=zero, expected_entropy=zero[:, 0], variation_ratio=zero[:, 0],
        mcse=zero, n_samples=0,
    )  # fmt: skip
    return prediction, y


def regression_alarm(n: int, seed: int) -> bool:
    """Whether a report finds a fault in a calibrated regression."""
    draw = torch.Generator().manual_seed(seed)
    mean = torch.randn(n, 1, generator=draw, dtype=torch.float64)
    std = 0.5 + 2.5 * torch.rand(n, 1, generator=draw, dtype=torch.float64)
    y = mean + std * torch.randn(n, 1, generator=draw, dtype=torch.float64)
    resampling = Resampling(LEVEL, 10, seed)
    r = matched_regression({"A": normal(mean, std)}, y, resampling)["A"]
    slices = slices_of(r, {"site": np.arange(n) % 3}, None)
    tested = regression_hypotheses(r, seed) | slice_hypothesis(slices, "regression")
    judged = verdicts(tested, 1 - LEVEL)
    falls = spearmanr(std.flatten().numpy(), r.row_errors).statistic < 0
    return any(v.rejected and (key != "ranking" or falls) for key, v in judged.items())


def classification_alarm(n: int, seed: int, scale: float) -> bool:
    """Whether a report finds a fault in a calibrated classification."""
    prediction, y = drawn_classes(n, scale, seed)
    c = matched_classification({"A": prediction}, y, Resampling(LEVEL, 10, seed))["A"]
    slices = slices_of(c, {"site": np.arange(n) % 3}, None)
    tested = classification_hypotheses(c, seed) | slice_hypothesis(slices, "classification")
    judged = verdicts(tested, 1 - LEVEL)
    wrong, entropy = c.wrong.numpy(), prediction.predictive_entropy.numpy()
    falls = 0 < wrong.sum() < n and spearmanr(entropy, wrong).statistic < 0
    return any(v.rejected and (key != "ranking" or falls) for key, v in judged.items())


def comparison_alarm(n: int, seed: int) -> bool:
    """Whether one of two regressions that are equally good is called better."""
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randn(n, 1, generator=draw, dtype=torch.float64)
    y = truth + torch.randn(n, 1, generator=draw, dtype=torch.float64)
    off = 0.5 * torch.randn(2, n, 1, generator=draw, dtype=torch.float64)
    std = torch.full_like(y, math.sqrt(1.25))
    resampling = Resampling(LEVEL, 10, seed)
    both = {name: normal(truth + off[i], std) for i, name in enumerate("AB")}
    methods = matched_regression(both, y, resampling)
    scores = {name: regression_scores(r) for name, r in methods.items()}
    judged = verdicts(comparisons(scores, seed), 1 - LEVEL)
    return any(verdict.rejected for verdict in judged.values())


def ece_interval_holds(n: int, seed: int) -> bool:
    """Whether the interval of the ECE of a calibrated classification holds 0."""
    prediction, y = drawn_classes(n, 2.0, seed)
    c = matched_classification({"A": prediction}, y, Resampling(LEVEL, 10, seed))["A"]
    return c.error.low == 0


def accuracy_interval_holds(n: int, seed: int) -> bool:
    """Whether the interval of the accuracy holds 95 %, the confidence of every row."""
    draw = np.random.default_rng(seed)
    probs = torch.tensor([[0.95, 0.05]] * n, dtype=torch.float64)
    y = torch.from_numpy((draw.random(n) >= 0.95).astype(np.int64))
    zero = torch.zeros_like(probs)
    prediction = ClassificationPrediction(
        probs=probs, probs_std=zero, expected_entropy=zero[:, 0], variation_ratio=zero[:, 0],
        mcse=zero, n_samples=0,
    )  # fmt: skip
    resampling = Resampling(LEVEL, 10, seed)
    c = matched_classification({"A": prediction}, y, resampling)["A"]
    found = resampling.estimates({"accuracy": classification_scores(c)["accuracy"]})["accuracy"]
    return found.low <= 0.95 <= found.high


def simulated(
    statement: str, n: int, nominal: float, repetitions: int, event: Callable[[int, int], bool]
) -> dict[str, Any]:
    """Count an event over independent data sets of `n` rows."""
    share = sum(event(n, seed) for seed in range(repetitions)) / repetitions
    # The error that the nominal rate would have: a share of 0 has none of its own.
    se = math.sqrt(nominal * (1 - nominal) / repetitions)
    return {
        "statement": statement, "n": n, "nominal": nominal, "simulated": share,
        "se": round(se, 4), "repetitions": repetitions,
    }  # fmt: skip


def statements(sizes: tuple[int, ...], repetitions: int) -> list[dict[str, Any]]:
    """Simulate every statement at every size."""
    alarm = "A report finds a fault in a calibrated"
    found = [
        simulated(f"{alarm} regression", n, 0.05, repetitions, regression_alarm) for n in sizes
    ]
    for name, scale in SHARPNESS.items():

        def event(n: int, seed: int, scale: float = scale) -> bool:
            return classification_alarm(n, seed, scale)

        text = f"{alarm} classification, {name}"
        found += [simulated(text, n, 0.05, repetitions, event) for n in sizes]
    text = "A report calls one of two equally good regressions better"
    found += [simulated(text, n, 0.05, repetitions, comparison_alarm) for n in sizes]
    text = "The interval of the accuracy holds a truth of 95 %"
    found += [simulated(text, n, 0.95, repetitions, accuracy_interval_holds) for n in sizes]
    text = "The interval of the ECE holds a truth of 0"
    found += [simulated(text, n, 0.95, repetitions, ece_interval_holds) for n in ECE_SIZES]
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repetitions", type=int, default=1000, help="data sets per statement")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes, repetitions = (SIZES, options.repetitions) if not options.smoke else ((10, 20), 3)
    found = statements(sizes, repetitions)
    rows = [
        [s["statement"], str(s["n"]), f"{s['nominal']:.3f}", f"{s['simulated']:.3f}"] for s in found
    ]
    print(markdown(["statement", "rows", "nominal", "simulated"], rows))
    write(options.json, circumstances(options.date) | {"statements": found})


if __name__ == "__main__":
    main()
