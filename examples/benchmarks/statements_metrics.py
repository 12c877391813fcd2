"""How often the tests and intervals of mcdrop.metrics are right, at small and large samples.

python examples/benchmarks/statements_metrics.py --json docs/data/statements_metrics.json

Each statement is simulated on data for which it should hold: false alarms on calibrated
predictions, coverage of intervals at a known truth.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from record import arguments, circumstances, markdown, write
from scipy.optimize import brentq

from mcdrop import metrics

Array = npt.NDArray[np.float64]
Draw = np.random.Generator

SIZES = (10, 20, 50, 200, 1000)
LEVEL = 0.05
# Statements whose every trial simulates a null distribution of its own.
SIMULATED = ("calibration", "simultaneous", "ranking")


@dataclass(frozen=True)
class Statement:
    """One claim and one simulated trial of it.

    Attributes:
        text: What is claimed to happen.
        nominal: Its stated rate.
        bound: "at most" or "at least".
        tolerance: How far beyond the bound the rate may be, apart from simulation error.
        sizes: Numbers of rows.
        trial: Whether it happened on one simulated data set of n rows.
    """

    text: str
    nominal: float
    bound: str
    tolerance: float
    sizes: tuple[int, ...]
    trial: Callable[[int, Draw], bool]


def rate(statement: Statement, n: int, repetitions: int, seed: int = 0) -> dict[str, Any]:
    """Simulate a statement at one number of rows."""
    draw = np.random.default_rng([seed, n, zlib.crc32(statement.text.encode())])
    hits = sum(statement.trial(n, draw) for _ in range(repetitions))
    share = hits / repetitions
    return {
        "statement": statement.text,
        "n": n,
        "nominal": statement.nominal,
        "simulated": round(share, 4),
        "se": round(math.sqrt(share * (1 - share) / repetitions), 4),
        "repetitions": repetitions,
    }


def holds(statement: Statement, found: dict[str, Any]) -> bool:
    """Whether a simulated rate keeps its bound, up to its tolerance and three standard errors."""
    slack = statement.tolerance + 3 * math.sqrt(
        statement.nominal * (1 - statement.nominal) / found["repetitions"]
    )
    if statement.bound == "at most":
        return bool(found["simulated"] <= statement.nominal + slack)
    return bool(found["simulated"] >= statement.nominal - slack)


def confidences(name: str, n: int, draw: Draw) -> tuple[Array, Array]:
    """Class probabilities (N, 4) of a kind, and labels drawn from them."""
    low, high = {"moderate": (0.3, 0.9), "confident": (0.85, 1.0), "almost certain": (0.98, 1.0)}[
        name
    ]
    top = draw.uniform(low, high, n)
    rest = draw.dirichlet(np.ones(3), n) * (1 - top)[:, None]
    probs = np.concatenate([top[:, None], rest], axis=1)
    labels = (draw.uniform(size=(n, 1)) > probs.cumsum(axis=1)).sum(axis=1).clip(max=3)
    return probs, labels


def classification_tests() -> Iterator[Statement]:
    """False alarms of the tests of class probabilities."""
    tests: dict[str, Callable[..., metrics.CalibrationTest]] = {
        "confidence_test": metrics.confidence_test,
        "calibration_test": metrics.calibration_test,
    }
    for test_name, test in tests.items():
        for kind in ("moderate", "confident", "almost certain"):

            def alarm(
                n: int,
                draw: Draw,
                test: Callable[..., metrics.CalibrationTest] = test,
                kind: str = kind,
            ) -> bool:
                return test(*confidences(kind, n, draw)).p_value <= LEVEL

            text = f"{test_name} raises a false alarm on calibrated {kind} predictions"
            yield Statement(text, LEVEL, "at most", 0.0, SIZES, alarm)


def regression_tests() -> Iterator[Statement]:
    """False alarms of the tests of predictive distributions, and of all three under Holm."""

    def of_pit(test: Callable[[Array], metrics.CalibrationTest]) -> Callable[[int, Draw], bool]:
        return lambda n, draw: test(draw.uniform(size=n)).p_value <= LEVEL

    for name, test in {
        "bias_test": metrics.bias_test,
        "width_test": metrics.width_test,
        "shape_test": metrics.shape_test,
    }.items():
        text = f"{name} raises a false alarm on calibrated predictions"
        # The p-values of the Anderson-Darling statistic are approximated.
        tolerance = 0.005 if name == "shape_test" else 0.0
        yield Statement(text, LEVEL, "at most", tolerance, SIZES, of_pit(test))

    def any_of_three(n: int, draw: Draw) -> bool:
        u = draw.uniform(size=n)
        tests = (metrics.bias_test(u), metrics.width_test(u), metrics.shape_test(u))
        return bool(metrics.holm([test.p_value for test in tests]).min() <= LEVEL)

    text = "any of bias, width and shape test raises a false alarm after Holm's adjustment"
    yield Statement(text, LEVEL, "at most", 0.005, SIZES, any_of_three)

    def coverage(n: int, draw: Draw) -> bool:
        end = np.full(n, 1.6448536269514722)
        return metrics.coverage_test(-end, end, draw.normal(size=n), level=0.9).p_value <= LEVEL

    text = "coverage_test raises a false alarm on exact 90 % intervals"
    yield Statement(text, LEVEL, "at most", 0.0, SIZES, coverage)

    def ranking(n: int, draw: Draw) -> bool:
        return (
            metrics.ranking_test(draw.gamma(2, size=n), loss=draw.exponential(size=n)).p_value
            <= LEVEL
        )

    text = "ranking_test raises a false alarm on uncertainty unrelated to errors"
    yield Statement(text, LEVEL, "at most", 0.0, SIZES, ranking)


def calibration_errors() -> Iterator[Statement]:
    """False alarms of an ECE against its null range, and coverage of the band of a curve."""
    for kind in ("moderate", "almost certain"):

        def alarm(n: int, draw: Draw, kind: str = kind) -> bool:
            return metrics.calibration_error_test(*confidences(kind, n, draw)).p_value <= LEVEL

        def inside(n: int, draw: Draw, kind: str = kind) -> bool:
            probs, y = confidences(kind, n, draw)
            curve = metrics.reliability_curve(probs, y)
            band = metrics.consistency_band(probs, y, simultaneous=True)
            used = curve.count > 0
            # The rounding of sums in different order.
            low, high = band.low[used] - 1e-9, band.high[used] + 1e-9
            return bool(((low <= curve.accuracy[used]) & (curve.accuracy[used] <= high)).all())

        text = f"calibration_error_test raises a false alarm on calibrated {kind} predictions"
        yield Statement(text, LEVEL, "at most", 0.0, SIZES, alarm)
        text = f"simultaneous consistency_band holds the curve of calibrated {kind} predictions"
        # A thousand drawings estimate the outer quantiles of a bin.
        yield Statement(text, 1 - LEVEL, "at least", 0.01, SIZES, inside)


def shares() -> Iterator[Statement]:
    """Coverage of intervals of shares, and false differences between two models."""
    for truth in (0.7, 0.95, 0.99):

        def exact(n: int, draw: Draw, truth: float = truth) -> bool:
            found = metrics.share_interval(draw.uniform(size=n) < truth)
            return found.low <= truth <= found.high

        def wilson(n: int, draw: Draw, truth: float = truth) -> bool:
            low, high = metrics.wilson_interval(draw.binomial(n, truth), n)
            return bool(low <= truth <= high)

        text = f"share_interval covers a share of {truth:g}"
        yield Statement(text, 0.95, "at least", 0.0, SIZES, exact)
        text = f"wilson_interval covers a share of {truth:g}"
        yield Statement(text, 0.95, "at least", 0.06, SIZES, wilson)
    for truth in (0.7, 0.95):

        def alarm(n: int, draw: Draw, truth: float = truth) -> bool:
            found = metrics.share_difference(*(draw.uniform(size=(2, n)) < truth))
            return not found.low <= 0 <= found.high

        often = f"{100 * truth:.0f} % of rows"
        text = f"share_difference tells apart two models that are both right in {often}"
        yield Statement(text, LEVEL, "at most", 0.004, SIZES, alarm)

    def difference(n: int, draw: Draw) -> bool:
        found = metrics.share_difference(draw.uniform(size=n) < 0.95, draw.uniform(size=n) < 0.8)
        return found.low <= 0.15 <= found.high

    text = "share_difference covers a difference of .15"
    yield Statement(text, 0.95, "at least", 0.02, SIZES, difference)


# Widths of two normal forecasts of equal expected NLL for standard normal targets,
# log s + 1 / (2 s^2): one overconfident, one underconfident.
NARROW = 0.7
WIDE = float(brentq(lambda s: math.log(s / NARROW) + 0.5 / s**2 - 0.5 / NARROW**2, 1, 5))


def means() -> Iterator[Statement]:
    """Coverage of intervals of means, and false differences between two models."""
    sizes = (20, 50, 200, 1000)

    def rmse(n: int, draw: Draw) -> bool:
        found = metrics.bootstrap(metrics.rmse, draw.normal(size=n), np.zeros(n))
        return found.low <= 1 <= found.high

    def nll(n: int, draw: Draw) -> bool:
        zero, one = np.zeros(n), np.ones(n)
        found = metrics.bootstrap(metrics.nll_normal, zero, one, draw.normal(size=n))
        return found.low <= 0.5 * math.log(2 * math.pi) + 0.5 <= found.high

    yield Statement("the interval of an RMSE covers it", 0.95, "at least", 0.02, sizes, rmse)
    yield Statement("the interval of a mean NLL covers it", 0.95, "at least", 0.02, sizes, nll)

    def unlike(n: int, draw: Draw) -> bool:
        y, (a, b) = draw.normal(size=n), draw.normal(0, 0.4, size=(2, n))
        s, t = np.exp(draw.normal(0, 0.3, size=(2, n)))
        return _differ((a, s, y), (b, t, y))

    def over_and_under(n: int, draw: Draw) -> bool:
        y, zero = draw.normal(size=n), np.zeros(n)
        return _differ((zero, np.full(n, NARROW), y), (zero, np.full(n, WIDE), y))

    text = "the NLL tells apart two models whose errors are alike"
    yield Statement(text, LEVEL, "at most", 0.02, sizes, unlike)
    text = "the NLL tells apart an over- and an underconfident model of equal NLL"
    yield Statement(text, LEVEL, "at most", 0.02, sizes, over_and_under)


def _differ(a: tuple[Array, ...], b: tuple[Array, ...]) -> bool:
    found = metrics.paired_bootstrap(metrics.nll_normal, a, b)
    return not found.low <= 0 <= found.high


def statements() -> list[Statement]:
    """Return every statement that is simulated."""
    return [
        *classification_tests(),
        *regression_tests(),
        *calibration_errors(),
        *shares(),
        *means(),
    ]


def findings() -> dict[str, Callable[[int, Draw], bool]]:
    """Return miscalibration of known size, by name, and whether a test finds it."""

    def swapped(n: int, draw: Draw) -> bool:
        stated = np.repeat([0.6, 0.9], n // 2)
        right = draw.uniform(size=stated.size) < 1.5 - stated
        return metrics.calibration_test(stated, right, kind="binary").p_value <= LEVEL

    def of_pit(
        test: Callable[[Any], metrics.CalibrationTest], errors: Callable[[int, Draw], Array]
    ) -> Callable[[int, Draw], bool]:
        def found(n: int, draw: Draw) -> bool:
            u = metrics.pit_normal(np.zeros(n), np.ones(n), errors(n, draw))
            return test(u).p_value <= LEVEL

        return found

    return {
        "calibration_test finds confidence .6 where right .9 and .9 where right .6": swapped,
        "bias_test finds a bias of half the stated standard deviation": of_pit(
            metrics.bias_test, lambda n, draw: draw.normal(0.5, 1, n)
        ),
        "width_test finds errors 1.25 times as large as stated": of_pit(
            metrics.width_test, lambda n, draw: draw.normal(0, 1.25, n)
        ),
        "shape_test finds t(2.2) errors under a normal": of_pit(
            metrics.shape_test, lambda n, draw: draw.standard_t(2.2, n)
        ),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    options = parser.parse_args()
    repetitions = 20 if options.smoke else options.repetitions
    began, found = time.perf_counter(), []
    for statement in statements():
        # A closed form costs a thousandth of a simulated null distribution.
        times = 1 if statement.text.startswith(SIMULATED) else 3
        for n in statement.sizes[:2] if options.smoke else statement.sizes:
            found.append(rate(statement, n, times * repetitions))
    power = [
        rate(Statement(text, 1.0, "at least", 1.0, SIZES, trial), n, repetitions)
        for text, trial in findings().items()
        for n in (SIZES[:2] if options.smoke else SIZES)
    ]
    power = [{key: one[key] for key in one if key != "nominal"} for one in power]
    rows = [
        [str(one["statement"]), str(one["n"]), f"{one['nominal']:.3f}", f"{one['simulated']:.3f}"]
        for one in found
    ]
    print(markdown(["statement", "n", "nominal", "simulated"], rows))
    rows = [[str(one[key]) for key in ("statement", "n", "simulated")] for one in power]
    print(markdown(["finding", "n", "simulated"], rows))
    print(f"{time.perf_counter() - began:.0f} s")
    write(options.json, {**circumstances(options.date), "statements": found, "power": power})


if __name__ == "__main__":
    main()
