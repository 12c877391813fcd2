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
        "mcdrop/metrics/crps_forms.py: `rows = max(1, _PAIRS_AT_ONCE // len(flat) ** 2)`: "
        "_PAIRS_AT_ONCE // len(flat) ** 2 -> _PAIRS_AT_ONCE * len(flat) ** 2",
        "mcdrop/metrics/crps_forms.py: `_PAIRS_AT_ONCE = 2**22`: 2 ** 22 -> 2 * 22",
        "mcdrop/recalibration/_level_map.py: `for block in edges.to(mean.device).split(max(1, "
        "_CELLS // (n_rows * n_outputs))):`: 1 -> 2",
        "mcdrop/recalibration/cross_conformal.py: `_CELLS = 2**22`: 2 -> 3",
        "mcdrop/_masks/stratified.py: `_SLOW_STEPS = 4`: 4 -> 5",
    ),
    "steps of a search that has converged before": (
        "mcdrop/metrics/_search.py: `_STEPS = 45`: 45 -> 46",
    ),
    "what is thrown away is drawn all the same": (
        "mcdrop/_masks/streams.py: `self._generator.random_raw(12, output=False)`: False -> True",
    ),
    "a factor c^(number of drops) more, which the factors of the lines take up, so that the law of "
    "patterns is the same": (
        "mcdrop/_masks/grid_law.py: `independent = kinds.drops * log(p) + (_PASSES - kinds.drops) "
        "* log1p(-p)`: -p -> p",
    ),
}
"""By reason, the mutants that compute the same or cannot be noticed, as the record names them."""
