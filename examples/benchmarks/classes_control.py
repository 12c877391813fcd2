"""What the control variate is worth for classes, and whether its standard errors hold.

For each trained classifier, rate and number of passes: the squared error of every quantity as a
share of that of 100 independent passes, and the coverage of intervals of 1.96 standard errors,
against a long reference of independent passes. Run it with
`python examples/benchmarks/classes_control.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from record import arguments, circumstances, markdown, write
from time_to_accuracy import Case, classifications
from torch import Tensor

import mcdrop

# Quantities, and the names of their standard errors.
QUANTITIES = {
    "probs": "mcse",
    "probs_std": "probs_std_mcse",
    "predictive_entropy": "predictive_entropy_mcse",
    "mutual_information": "mutual_information_mcse",
}


def predictions(case: Case, n_samples: int, seeds: range, control: Any) -> list[Any]:
    """Predict with several seeds; without a control variate, from independent passes."""
    mc = mcdrop.wrap(case.net, stratified=control is not False)
    return [
        mc.predict_with_uncertainty(
            case.x, n_samples=n_samples, seed=seed, task="classification", control_variate=control
        )
        for seed in seeds
    ]


def squared(found: list[Any], reference: Any, name: str) -> float:
    """Return the mean squared error of a quantity."""
    exact: Tensor = getattr(reference, name)
    return float(torch.stack([(getattr(each, name) - exact).square() for each in found]).mean())


def covered(found: list[Any], reference: Any, name: str) -> float:
    """Return how many intervals hold the reference, whose own error is known as well."""
    exact, own = getattr(reference, name), getattr(reference, QUANTITIES[name])
    hits = [
        (getattr(each, name) - exact).abs()
        <= 1.96 * (getattr(each, QUANTITIES[name]).square() + own.square()).sqrt()
        for each in found
    ]
    return float(torch.stack(hits).double().mean())


def result_of(case: Case, p: float, passes: tuple[int, ...], effort: float) -> list[dict[str, Any]]:
    """Measure one network."""
    reference = predictions(case, max(400, int(10_000 * effort)), range(10**6, 10**6 + 1), False)[0]
    base = predictions(case, 100, range(max(3, int(12 * effort))), False)
    results = []
    for n_samples in passes:
        found = predictions(case, n_samples, range(max(3, int(20 * effort))), True)
        results.append(
            {
                "network": case.name,
                "p": p,
                "n_samples": n_samples,
                "worth": {
                    name: squared(base, reference, name) / squared(found, reference, name)
                    for name in QUANTITIES
                },
                "coverage": {name: covered(found, reference, name) for name in QUANTITIES},
            }
        )
    return results


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", type=float, action="append", help="dropout rate; repeatable")
    parser.add_argument("--network", action="append", help="name of a network; repeatable")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rates = options.rate or ((0.3,) if options.smoke else (0.1, 0.3, 0.5))
    passes = (16,) if options.smoke else (16, 32, 64, 256)
    effort = 0.05 if options.smoke else 1.0
    path: Path | None = options.json
    results: list[dict[str, Any]] = []
    if path is not None and path.exists():
        results = json.loads(path.read_text())["results"]
    done = {(each["network"], each["p"]) for each in results}
    for p in rates:
        for name, build in classifications(p, effort):
            if (name, p) in done or (options.network and name not in options.network):
                continue
            results += result_of(build(), p, passes, effort)
            # Written as it grows: the whole takes long.
            write(path, {**circumstances(options.date), "results": results})
            print(f"{name}, p = {p}: done", flush=True)
    rows = [
        [each["network"], f"{each['p']:g}", str(each["n_samples"])]
        + [f"{each['worth'][name]:.1f}x ({each['coverage'][name]:.2f})" for name in QUANTITIES]
        for each in sorted(results, key=lambda each: (each["network"], each["p"]))
    ]
    print(markdown(["network", "p", "S", *(f"`{name}`" for name in QUANTITIES)], rows))


if __name__ == "__main__":
    main()
