"""Compare MC dropout with simpler methods by cross-validation, and draw the differences.

Disease progression one year later, from ten measurements: scikit-learn's diabetes data, which
ship with the package. Writes a table and a picture:
``python examples/compare_methods.py --out DIR``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sklearn.datasets import load_diabetes
from sklearn.model_selection import RepeatedKFold

import mcdrop
from mcdrop.baselines import (
    BayesianRidge,
    DeepEnsemble,
    DropoutNetwork,
    GaussianProcess,
    L2Network,
    Ridge,
    Training,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for table and picture")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=1, help="repeats of the five folds")
    options = parser.parse_args()
    X, y = load_diabetes(return_X_y=True)
    training = Training(max_epochs=options.epochs)
    methods = {
        "MC dropout": DropoutNetwork(training=training),
        "L2 network": L2Network(training=training),
        "Deep ensemble": DeepEnsemble(training=training),
        "Ridge": Ridge(),
        "Bayesian ridge": BayesianRidge(),
        "Gaussian process": GaussianProcess(),
        "Mean of y": lambda X_train, y_train, X_test: [y_train.mean()] * len(X_test),
    }
    # A single epoch is a trial run, for which two folds are enough.
    n_folds = min(5, options.epochs + 1)
    folds = RepeatedKFold(n_splits=n_folds, n_repeats=options.repeats, random_state=0)
    found = mcdrop.compare(X, y, methods, cv=folds, task="regression", progress=True)
    print(found.to_markdown())
    print(
        f"MC dropout scores like an ensemble of {found.ensemble_equivalent('MC dropout')} networks"
    )
    found.plot().savefig(options.out / "comparison.png", dpi=120)
    table = options.out / "comparison.md"
    table.write_text(found.to_markdown())
    print(f"\nReport: {table.resolve()}")


if __name__ == "__main__":
    main()
