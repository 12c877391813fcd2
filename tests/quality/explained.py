"""Why some lines are not run and some faults are not noticed, though nothing is wrong with that."""

from __future__ import annotations

__all__ = ["LINES", "MUTANTS"]

LINES: dict[str, str] = {
    "_masks/numba_kernels.py": "compiled by Numba, where lines are not counted; tested against "
    "NumPy's to the last bit",
    "mlflow.py": "needs MLflow, which `make integrations` installs and tests with",
    "_files/workers.py": "runs in the processes of Ray, which `make integrations` starts",
    "baselines/last_layer_laplace.py": "its fits are in the slow suite",
    "_export/writing.py": "ONNX files are written by the slow suite and `make integrations`",
    "_tasks/controlled_classes.py": "rows that settle at different passes, in the slow suite",
}
"""By file, why lines of it are not run by the default suite on one machine."""

MUTANTS: dict[str, tuple[str, ...]] = {
    "a bound of memory or of work at one time, on which no number depends": (
        "mcdrop/recalibration/_level_map.py: `_STEP, _REACH, _CELLS = 0.05, 8.0, 2**20`: 20 -> 21",
        "mcdrop/_masks/source.py: `_KEPT_BITS = 64 * 2**20`: 64 -> 65",
    ),
    "a factor c^(number of drops) more, which the factors of the lines take up, so that the law of "
    "patterns is the same": (
        "mcdrop/_masks/grid_law.py: `independent = kinds.drops * log(p) + (_PASSES - kinds.drops) "
        "* log1p(-p)`: -p -> p",
    ),
}
"""By reason, the mutants that compute the same or cannot be noticed, as the record names them."""
