"""Why some lines are not run and some faults are not noticed, though nothing is wrong with that."""

from __future__ import annotations

__all__ = ["LINES", "MUTANTS"]

LINES: dict[str, str] = {
    "_masks/numba_kernels.py": "compiled by Numba, where lines are not counted; tested against "
    "NumPy's to the last bit",
    "_masks/triton_kernels.py": "needs Triton, which comes with torch for CUDA",
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
        "mcdrop/_masks/numpy_kernels.py: `_WORKSPACE_BYTES = 64 * 2**20`: 64 -> 65",
        "mcdrop/_masks/source.py: `_LARGE_SITE = 4 * 2**20`: 4 -> 5",
        "mcdrop/_masks/numpy_kernels.py: `_TILE = 2**16`: 2 ** 16 -> 2 * 16",
        "mcdrop/metrics/_resampling.py: `_DRAWN_AT_ONCE = 2**22`: 2 ** 22 -> 2 * 22",
        "mcdrop/metrics/crps_forms.py: `rows = max(1, _PAIRS_AT_ONCE // len(flat) ** 2)`: 2 -> 3",
        "mcdrop/_masks/source.py: `kernels = compiled(span.count * numel)`: "
        "span.count * numel -> span.count / numel",
        "mcdrop/_masks/numpy_kernels.py: `scaled_before = 2 * x.numel() <= out.numel()`: 2 -> 3",
        "mcdrop/recalibration/cross_conformal.py: `_CELLS = 2**22`: 22 -> 23",
        "mcdrop/metrics/crps_forms.py: `rows = max(1, _PAIRS_AT_ONCE // len(flat) ** 2)`: "
        "len(flat) ** 2 -> len(flat) * 2",
    ),
    "a shortcut for whole strata, without which the general form writes the same masks": (
        "mcdrop/_masks/stratified.py: `if first % STRATUM or len(out) % STRATUM:`: "
        "len(out) % STRATUM -> len(out) * STRATUM",
        "mcdrop/_masks/device_kernels.py: `if skipped == 0 and numbers.stop == end * _STRATUM:`: "
        "end * _STRATUM -> end / _STRATUM",
    ),
    "min(1, 2 / max(a, m)), which is the same for every a up to 2": (
        "mcdrop/_masks/grid_law.py: `factors = factors - move * min(1.0, 2 / max(1e-300, "
        "float(np.abs(move).max())))`: 1e-300 -> 1.0",
    ),
    "a p-value above 1, which is cut to 1 before it is returned": (
        'mcdrop/metrics/regression_tests.py: `return CalibrationTest(1.0, 1.0, "none", z.size)`: '
        "1.0 -> 2.0 (2)",
    ),
    "the direction of a correlation of 0, which has been returned before": (
        'mcdrop/metrics/ranking.py: `return CalibrationTest(r, p_value, "rising" if r > 0 else '
        '"falling", n)`: r > 0 -> r >= 0',
    ),
    "starts of cycles at a rate without extra drops, which decide nothing there": (
        "mcdrop/_masks/stratified.py: `begun = draws[:, :1]`: 1 -> 2",
    ),
    "the last step of a search, which rates below 2^-25 alone come down to, and which changes no "
    "mass of theirs by 2^-28": (
        "mcdrop/_masks/grid_law.py: `while weight < _LARGEST_WEIGHT and step >= _FEWEST_STEPS:`: "
        "step >= _FEWEST_STEPS -> step > _FEWEST_STEPS",
    ),
    "a mass of 0, which is moved to one orbit or to another": (
        "mcdrop/_masks/grid_law.py: `beside = most + 1 if shift >= 0 or most == 0 else most - 1`: "
        "shift >= 0 -> shift > 0",
    ),
    "-2 in place of -1 as the length that NumPy is to find: it takes any negative number": (
        "mcdrop/metrics/regression_tests.py: `columns = inside.reshape(len(inside), -1).T`: 1 -> 2",
    ),
    "equality with a tolerance for rounding, on neither side of which an answer is wrong": (
        "mcdrop/metrics/calibration_tests.py: `if observed > _ROUNDING and abs(gap) < observed / "
        "2:`: observed > _ROUNDING -> observed >= _ROUNDING",
    ),
    "rounding alone, as u and 1 - u are equally precise next to the median": (
        "mcdrop/recalibration/_level_map.py: `self._mirrored = ends[:-1] + ends[1:] > 0`: 0 -> 1",
    ),
    "the sign of all residuals together, whose absolute values are summed": (
        "mcdrop/metrics/smooth.py: `mass += np.bincount(index, part * residual, _CELLS)`: mass += "
        "np.bincount(index, part * residual, _CELLS) -> mass -= np.bincount(index, part * "
        "residual, _CELLS)",
    ),
    "a mean that is 0 up to rounding, as every step of the search keeps it": (
        "mcdrop/recalibration/vector.py: `self._parameters = np.stack([found[0], found[1] - "
        "found[1].mean()])`: found[1] - found[1].mean() -> found[1] + found[1].mean()",
    ),
    "a number of strata that is 0, 2 or 3, and never 1": (
        "mcdrop/_engine/moments.py: `told = self._groups.by_stratum or self._groups.few_strata > "
        "0`: 0 -> 1",
    ),
    "a constant in a loss, which moves no minimum": (
        "mcdrop/recalibration/temperature.py: `scores = (given / temperature - totals).logsumexp("
        "dim=0) - math.log(len(given))`: (given / temperature - totals).logsumexp(dim=0) - "
        "math.log(len(given)) -> (given / temperature - totals).logsumexp(dim=0) + "
        "math.log(len(given))",
    ),
    "what an empty bin is divided by, where no quotient is used": (
        "mcdrop/metrics/calibration.py: `safe = np.where(used, count, 2.0)`: 2.0 -> 3.0",
    ),
    "another order of the kinds of patterns, which are only summed over and looked up": (
        "mcdrop/_masks/grid_law.py: `low * _PATTERNS + high, return_index=True, "
        "return_inverse=True, return_counts=True`: low * _PATTERNS + high -> "
        "low * _PATTERNS - high",
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
