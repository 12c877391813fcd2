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

from mcdrop import metrics

Array = npt.NDArray[np.float64]
Draw = np.random.Generator

SIZES = (10, 20, 50, 200, 1000)
LEVEL = 0.05


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


def statements() -> list[Statement]:
    """Return every statement that is simulated."""
    return [*classification_tests(), *regression_tests()]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1, help="ignored: NumPy on one core")
    options = parser.parse_args()
    repetitions = 20 if options.smoke else options.repetitions
    began, found = time.perf_counter(), []
    for statement in statements():
        for n in statement.sizes[:2] if options.smoke else statement.sizes:
            found.append(rate(statement, n, repetitions))
    rows = [
        [str(one["statement"]), str(one["n"]), f"{one['nominal']:.3f}", f"{one['simulated']:.3f}"]
        for one in found
    ]
    print(markdown(["statement", "n", "nominal", "simulated"], rows))
    print(f"{time.perf_counter() - began:.0f} s")
    write(options.json, {**circumstances(options.date), "statements": found})


if __name__ == "__main__":
    main()
