"""Maximum likelihood for the few parameters of a map of class probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mcdrop.errors import RangeError

Floats = npt.NDArray[np.float64]
LossAndGradient = Callable[[Floats], tuple[float, Floats]]

# Where classes are separated the likelihood has no maximum: the loss falls to 0, or a parameter
# grows until it meets this bound.
FARTHEST = 100.0
_SEPARATED = 1e-6


def most_likely(
    function: str, loss: LossAndGradient, start: Sequence[float] | Floats, lowest: Sequence[float]
) -> Floats:
    """Minimize a convex loss over parameters from `lowest` to 100; refuse one without a minimum.

    Args:
        function: Public function to name in errors.
        loss: Mean negative log-likelihood in nats and its gradient.
        start: Where to start.
        lowest: Least value of each parameter; one at -100 counts as far out, others do not.
    """
    from scipy.optimize import minimize

    bounds = [(low, FARTHEST) for low in lowest]
    found = minimize(
        loss,
        np.asarray(start, dtype=np.float64),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 10_000, "maxfun": 100_000},
    )
    parameters: Floats = found.x
    if found.fun < _SEPARATED or bool((np.abs(parameters) >= FARTHEST).any()):
        raise RangeError.of(
            function,
            "y",
            f"have a most likely map with parameters below {FARTHEST:g}",
            "a likelihood that grows without end, as where every label is told without error",
            "Calibrate on more rows, some of them misclassified",
        )
    return parameters
