"""Estimators on tables: cross-validated errors against ridge, a perceptron and a forest.

MCDROP_UCI_DIR=FOLDER python examples/benchmarks/tabular.py --json docs/data/tabular.json

Reads scikit-learn's diabetes and digits, and every NAME.txt.gz of the folder that MCDROP_UCI_DIR
names (columns of numbers, the target last). Large tables are cut to --rows rows.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from record import arguments, circumstances, markdown, write
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mcdrop.estimators import MCDropoutClassifier, MCDropoutRegressor
from mcdrop.metrics import mean_difference

Float64 = npt.NDArray[np.float64]
Made = Callable[[], Any]

OURS = "mcdrop"
METHODS = (OURS, "ridge", "MLP", "forest")


def regressors(options: dict[str, Any]) -> dict[str, Made]:
    return {
        OURS: lambda: MCDropoutRegressor(random_state=0, **options),
        "ridge": lambda: make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))),
        "MLP": lambda: make_pipeline(StandardScaler(), MLPRegressor(random_state=0, max_iter=500)),
        "forest": lambda: RandomForestRegressor(random_state=0),
    }


def classifiers(options: dict[str, Any]) -> dict[str, Made]:
    return {
        OURS: lambda: MCDropoutClassifier(random_state=0, **options),
        "ridge": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "MLP": lambda: make_pipeline(StandardScaler(), MLPClassifier(random_state=0, max_iter=500)),
        "forest": lambda: RandomForestClassifier(random_state=0),
    }


def tables(names: list[str] | None, rows: int) -> dict[str, tuple[Float64, Any, bool]]:
    """Return features, targets and whether they are classes, by name."""
    found: dict[str, Callable[[], tuple[Float64, Any, bool]]] = {
        "diabetes": lambda: (*load_diabetes(return_X_y=True), False),
        "digits": lambda: (*load_digits(return_X_y=True), True),
    }
    for path in sorted(Path(os.environ.get("MCDROP_UCI_DIR", "none")).glob("*.txt.gz")):
        found[path.name.removesuffix(".txt.gz")] = lambda path=path: (  # type: ignore[misc]
            *_split(np.loadtxt(path)),
            False,
        )
    chosen = found if names is None else {name: found[name] for name in names}
    result = {}
    for name, read in chosen.items():
        X, y, is_class = read()
        few = np.random.default_rng(0).permutation(len(X))[:rows]
        result[name] = (X[few], y[few], is_class)
    return result


def _split(table: Float64) -> tuple[Float64, Float64]:
    return table[:, :-1], table[:, -1]


def compared(X: Float64, y: Any, is_class: bool, folds: int, options: dict[str, Any]) -> Any:
    """Return errors by method, paired differences to ours, and the coverage of our intervals."""
    methods = classifiers(options) if is_class else regressors(options)
    split = StratifiedKFold if is_class else KFold
    losses: dict[str, Float64] = {name: np.empty(len(y)) for name in methods}
    covered = np.zeros(len(y))
    for train, test in split(folds, shuffle=True, random_state=0).split(X, y):
        for name, make in methods.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = make().fit(X[train], y[train])
            found = model.predict(X[test])
            losses[name][test] = (found != y[test]) if is_class else (found - y[test]) ** 2
            if name == OURS and not is_class:
                lower, upper = model.predict_interval(X[test], 0.9)
                covered[test] = (lower <= y[test]) & (y[test] <= upper)
    scale = 1.0 if is_class else float(np.var(y))
    differences = {}
    for name in methods:
        if name != OURS:
            gap = mean_difference(losses[OURS] / scale, losses[name] / scale)
            differences[name] = {"value": gap.value, "low": gap.low, "high": gap.high}
    return {
        "rows": len(y),
        "features": X.shape[1],
        "measure": "error rate" if is_class else "RMSE",
        "errors": {
            name: float(each.mean() if is_class else np.sqrt(each.mean()))
            for name, each in losses.items()
        },
        "difference": differences,
        "coverage_90": None if is_class else float(covered.mean()),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--dataset", action="append", help="only these; repeatable")
    parser.add_argument("--rows", type=int, default=1000, help="of a table, at most")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    options = {"max_epochs": 2, "n_members": 2, "n_samples": 8} if asked.smoke else {}
    rows, folds = (60, 2) if asked.smoke else (asked.rows, asked.folds)
    results: dict[str, Any] = {}
    cells = []
    for name, (X, y, is_class) in tables(asked.dataset, rows).items():
        results[name] = each = compared(X, y, is_class, folds, options)
        cells.append([name, str(each["rows"]), *(f"{e:.3g}" for e in each["errors"].values())])
    sys.stdout.write(markdown(["data", "rows", *METHODS], cells) + "\n")
    write(asked.json, {**circumstances(asked.date), "folds": folds, "results": results})


if __name__ == "__main__":
    main()
