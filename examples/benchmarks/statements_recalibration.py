"""Simulate what the recalibrations state: nominal against simulated, at several sample sizes.

Every forecast is wrong on purpose (in mean, spread or shape), every data set is drawn anew, and
each repetition fits on n rows and counts on new rows. Run it with
`python examples/benchmarks/statements_recalibration.py --json statements_recalibration.json`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import record
import torch

from mcdrop import ClassificationPrediction, RegressionPrediction
from mcdrop.baselines import Ridge
from mcdrop.recalibration import (
    BetaScaling,
    ConformalClassifier,
    ConformalRegressor,
    CrossConformalRegressor,
    IsotonicRecalibration,
    QuantileRecalibration,
    VectorScaling,
    WeightedConformalRegressor,
)

Floats = npt.NDArray[np.float64]
Times = Callable[[int], range]
Relation = Literal["equal to", "at least", "at most"]

NEW = 70


@dataclass(frozen=True)
class Statement:
    """One statement, and what a simulation of it gave.

    Attributes:
        statement: What is claimed, in words.
        n: Rows of the fit.
        relation: How the simulated number should stand to the nominal one.
        nominal: The number that is claimed.
        simulated: Its mean over repetitions.
        se: Standard error of that mean.
        repetitions: Data sets that were drawn.
    """

    statement: str
    n: int
    relation: Relation
    nominal: float
    simulated: float
    se: float
    repetitions: int

    def holds(self, errors: float = 4.0) -> bool:
        """Say whether the simulation agrees within so many standard errors."""
        gap, slack = self.simulated - self.nominal, errors * self.se
        too_low, too_high = gap < -slack, gap > slack
        return not (
            (too_low and self.relation != "at most") or (too_high and self.relation != "at least")
        )


def simulated(
    statement: str, n: int, relation: Relation, nominal: float, values: Floats
) -> Statement:
    """Summarize one value per repetition."""
    se = float(values.std(ddof=1)) / math.sqrt(len(values))
    return Statement(statement, n, relation, nominal, float(values.mean()), se, len(values))


def statements(scale: float = 1.0) -> Iterator[Statement]:
    """Simulate every statement; `scale` multiplies the numbers of repetitions."""

    def times(repetitions: int) -> range:
        return range(max(3, round(repetitions * scale)))

    for part in (
        sets_by_batch,
        conformal_intervals,
        quantile_intervals,
        weighted_intervals,
        cross_intervals,
        isotonic_maps,
        parametric_maps,
    ):
        yield from part(times)


def sets_by_batch(times: Times) -> Iterator[Statement]:
    """Prediction sets for rows given one by one, in batches and at once."""
    level = 0.8
    sizes: dict[Literal["aps", "raps"], tuple[int, ...]] = {"aps": (20, 100, 1000), "raps": (100,)}
    for method, several in sizes.items():
        for n in several:
            share = math.ceil(round((n + 1) * level, 9)) / (n + 1)
            for name, size in (("one by one", 1), ("in batches of 7", 7), ("at once", NEW)):
                inside = []
                for seed in times(120):
                    rng = np.random.default_rng(seed)
                    probs, y = overconfident(rng, n + NEW)
                    c = ConformalClassifier(method, level, seed=seed)
                    c.fit(probs[:n], y[:n])
                    sets = [
                        c(probs[start : start + size]).prediction_sets(level)
                        for start in range(n, n + NEW, size)
                    ]
                    hit = torch.cat(sets)[np.arange(NEW), y[n:]]
                    inside.append(hit.double().mean().item())
                words = f"ConformalClassifier {method}: {level:.0%} sets, rows {name}, cover"
                yield simulated(words, n, "equal to", share, np.array(inside))


def conformal_intervals(times: Times) -> Iterator[Statement]:
    """Split conformal intervals."""
    for method in ("absolute", "normalized", "quantile"):
        for n, level in ((20, 0.9), (100, 0.9), (100, 0.95)):
            share = math.ceil(round((n + 1) * level, 9)) / (n + 1)
            inside = []
            for seed in times(500):
                rng = np.random.default_rng(seed)
                x = rng.uniform(size=n + NEW)
                p = normal(0.5 + 0 * x, 0.2 + x)
                y = x + rng.exponential(size=len(x)) * (0.5 + x)
                c = ConformalRegressor(method, level).fit(p[:n], y[:n])
                inside.append(covered(c(p[n:]).interval(level), y[n:]))
            words = f"ConformalRegressor {method}: {level:.0%} intervals cover"
            yield simulated(words, n, "equal to", share, np.array(inside))


def quantile_intervals(times: Times) -> Iterator[Statement]:
    """Intervals of the recalibrated distribution, whatever the forecast got wrong."""
    cases: dict[str, tuple[float, Callable[[np.random.Generator, int], Floats]]] = {
        "std three times too small": (1 / 3, lambda rng, size: rng.normal(size=size)),
        "std three times too large": (3.0, lambda rng, size: rng.normal(size=size)),
        "exponential targets": (1.0, lambda rng, size: rng.exponential(size=size)),
    }
    for case, (std, draw) in cases.items():
        for n, level in ((50, 0.9), (300, 0.9), (300, 0.95), (1000, 0.95)):
            # The ends move outward to ranks.
            tail = (1 - level) / 2
            low = math.floor(round((n + 1) * tail, 9))
            share = (n + 1 - 2 * low) / (n + 1)
            inside = []
            for seed in times(300):
                y = draw(np.random.default_rng(seed), n + NEW)
                q = QuantileRecalibration().fit(normal(np.zeros(n), std), y[:n])
                lower, upper = q(normal(np.zeros(1), std)).interval(level)
                inside.append(covered((lower, upper), y[n:]))
            words = f"QuantileRecalibration, {case}: {level:.0%} intervals cover"
            yield simulated(words, n, "equal to", share, np.array(inside))


def weighted_intervals(times: Times) -> Iterator[Statement]:
    """Intervals under covariate shift: calibration x uniform, new x of density 2 x."""
    level = 0.9
    for n in (50, 200):
        inside = []
        for seed in times(500):
            rng = np.random.default_rng(seed)
            x = np.concatenate([rng.uniform(size=n), np.sqrt(rng.uniform(size=NEW))])
            p, y = normal(0.5 + 0 * x, 1.0), x + x * rng.normal(size=len(x))
            c = WeightedConformalRegressor(level=level).fit(p[:n], y[:n], weights=x[:n])
            inside.append(covered(c(p[n:], weights=x[n:]).interval(level), y[n:]))
        words = f"WeightedConformalRegressor: {level:.0%} intervals cover under covariate shift"
        yield simulated(words, n, "at least", level, np.array(inside))


def cross_intervals(times: Times) -> Iterator[Statement]:
    """CV+ and the jackknife+ around ridge regression with heavy-tailed noise."""
    level, d = 0.9, 5
    for n, k in ((20, 5), (20, 20), (50, 10), (200, 10)):
        inside = []
        for seed in times(100):
            rng = np.random.default_rng(seed)
            X = rng.normal(size=(n + NEW, d))
            y = X @ np.ones(d) + rng.standard_t(3, size=n + NEW)
            folds = np.arange(n) % k
            models = [Ridge(1.0).fit(X[:n][folds != f], y[:n][folds != f]) for f in range(k)]
            left_out = CrossConformalRegressor.gathered([m.predict(X[:n]) for m in models], folds)
            c = CrossConformalRegressor(level=level).fit(left_out, y[:n], folds=folds)
            inside.append(covered(c([m.predict(X[n:]) for m in models]).interval(level), y[n:]))
        loss = min(2 * (1 - 1 / k) / (n / k + 1), (1 - k / n) / (k + 1))
        name = "jackknife+" if k == n else f"CV+ with {k} folds"
        words = f"CrossConformalRegressor, {name}: {level:.0%} intervals cover"
        yield simulated(words, n, "at least", 1 - 2 * (1 - level) - loss, np.array(inside))


def isotonic_maps(times: Times) -> Iterator[Statement]:
    """Isotonic maps of calibrated probabilities: finite, and no worse than the plain map."""
    from sklearn.isotonic import IsotonicRegression

    for n in (200, 1000, 5000):
        infinite, excess = [], []
        for seed in times(120):
            rng = np.random.default_rng(seed)
            truth = rng.beta(0.7, 0.7, size=n + 5000)
            y = (rng.uniform(size=len(truth)) < truth).astype(int)
            p = averaged(np.stack([1 - truth, truth], axis=1))
            scaled = IsotonicRecalibration().fit(p[:n], y[:n])(p[n:])
            plain = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            before = plain.fit(truth[:n], y[:n]).predict(truth[n:])
            infinite.append(float(not bool(torch.isfinite(scaled.log_prob(y[n:])).all())))
            after = scaled.probs[:, 1].numpy()
            excess.append(np.mean((after - y[n:]) ** 2) - np.mean((before - y[n:]) ** 2))
        words = "IsotonicRecalibration: share of fits with an infinite log-likelihood"
        yield simulated(words, n, "equal to", 0.0, np.array(infinite))
        words = "IsotonicRecalibration: Brier score over that of the plain isotonic map"
        yield simulated(words, n, "at most", 0.0, np.array(excess))


def parametric_maps(times: Times) -> Iterator[Statement]:
    """What the parameters of beta and vector scaling cost on calibrated probabilities."""
    for n in (200, 1000):
        kinds: tuple[tuple[Any, int, int], ...] = ((BetaScaling, 2, 3), (VectorScaling, 3, 5))
        for kind, n_classes, n_parameters in kinds:
            lost = []
            for seed in times(150):
                rng = np.random.default_rng(seed)
                truth = rng.dirichlet(np.ones(n_classes), n + 5000)
                y = (rng.uniform(size=(len(truth), 1)) > truth.cumsum(axis=1)[:, :-1]).sum(axis=1)
                p = averaged(truth)
                scaled = kind().fit(p[:n], y[:n])(p[n:])
                # The expectation over y is known: the divergence from the truth.
                gap = truth[n:] * (p[n:].probs.log() - scaled.probs.log()).numpy()
                lost.append(gap.sum(axis=1).mean())
            # The first-order law has an error of second order in 1 / n: a fifth is allowed at most.
            words = f"{kind.__name__}, {n_classes} classes: nats lost on calibrated probabilities"
            bound = 1.2 * n_parameters / (2 * n)
            yield simulated(words, n, "at most", bound, np.array(lost))


def overconfident(rng: np.random.Generator, size: int) -> tuple[ClassificationPrediction, Any]:
    """Draw overconfident probabilities of four classes, two swapped now and then, and labels."""
    truth = rng.dirichlet(np.ones(4), size)
    y = (rng.uniform(size=(size, 1)) > truth.cumsum(axis=1)[:, :-1]).sum(axis=1)
    stated = (truth[:, [1, 0, 2, 3]] + truth) ** 3
    return averaged(stated / stated.sum(axis=1, keepdims=True)), y


def averaged(probs: Floats) -> ClassificationPrediction:
    """Make a classification without passes."""
    p = torch.from_numpy(probs)
    return ClassificationPrediction(
        probs=p,
        probs_std=torch.zeros_like(p),
        expected_entropy=-torch.special.xlogy(p, p).sum(dim=1),
        variation_ratio=torch.zeros(len(p)),
        mcse=torch.zeros_like(p),
        n_samples=0,
    )


def normal(mean: Floats, std: Floats | float) -> RegressionPrediction:
    """Make a normal forecast."""
    center = torch.from_numpy(np.asarray(mean, dtype=float))
    return RegressionPrediction(
        mean=center,
        epistemic_variance=torch.zeros_like(center),
        aleatoric_variance=torch.as_tensor(std, dtype=torch.float64).square().expand_as(center),
        mcse=torch.zeros_like(center),
        n_samples=0,
        family="normal",
    )


def covered(interval: tuple[torch.Tensor, torch.Tensor], y: Floats) -> float:
    """Return the share of targets inside."""
    lower, upper = (end.numpy() for end in interval)
    return float(np.mean((lower <= y) & (y <= upper)))


def main() -> None:
    """Simulate, print a table, and write the numbers."""
    parser = record.arguments(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = []
    for each in statements(0.01 if options.smoke else 1.0):
        found.append(each)
        print(f"{each.statement}, n = {each.n}: {each.relation} {each.nominal:.4f},", end=" ")
        print(f"simulated {each.simulated:.4f} +- {each.se:.4f}")
    failed = [each for each in found if not each.holds()]
    print(f"{len(found) - len(failed)} of {len(found)} statements hold within 4 standard errors.")
    content = {"statements": [asdict(each) for each in found]}
    record.write(options.json, {**record.circumstances(options.date), **content})


if __name__ == "__main__":
    main()
