"""Checks of what the caller passed, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mcdrop.errors import RangeError, UnsupportedError

__all__ = [
    "check_choice",
    "check_count",
    "checked_model",
    "checked_noise",
    "checked_passes",
    "checked_rates",
    "require_fitted",
]

Fitted = TypeVar("Fitted")


def check_count(function: str, argument: str, value: object, least: int) -> None:
    """Refuse what is not an integer of at least `least`."""
    if not _is_count(value, least):
        raise RangeError.of(
            function, argument, f"be an integer of at least {least}", repr(value), "Pass a number"
        )


def _is_count(value: object, least: int) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and value >= least  # type: ignore[operator]


def checked_passes(
    function: str, n_samples: object, *, tolerance: object, keep_samples: bool
) -> int | None:
    """Return the number of passes; None if the tolerance decides."""
    if n_samples == "auto":
        if keep_samples:
            raise RangeError.of(
                function,
                "keep_samples",
                "be False for n_samples='auto', where rows take different numbers of passes",
                keep_samples,
                "Pass a number as n_samples",
            )
        return None
    if not _is_count(n_samples, 2):
        raise RangeError.of(
            function,
            "n_samples",
            "be an integer of at least 2, or 'auto'",
            repr(n_samples),
            "Pass a number",
        )
    if tolerance is not None:
        raise RangeError.of(
            function,
            "tolerance",
            "be None for a given number of passes",
            tolerance,
            "Pass n_samples='auto' to run as many passes as it asks for",
        )
    return int(n_samples)  # type: ignore[call-overload]


def checked_model(model: object) -> nn.Module:
    """Return the module to run; refuse what is none, or does not run as Python code."""
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    if not isinstance(model, nn.Module):
        raise UnsupportedError.of(
            "wrap",
            "model",
            "be a torch.nn.Module",
            f"{type(model).__name__}",
            "Pass the trained model itself",
        )
    scripted = [name or "model" for name, m in model.named_modules() if _is_scripted(m)]
    if scripted:
        raise UnsupportedError.of(
            "wrap",
            "model",
            "run as Python code, where its dropout can be seen",
            f"TorchScript in {', '.join(scripted[:5])}",
            "Wrap the original module, or a torch.export program",
        )
    return model


def _is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def checked_rates(p: float | Mapping[str, float] | None) -> dict[str, float]:
    """Return the overriding rates by site name; the key "" stands for all sites."""
    if p is None:
        return {}
    rates = dict(p) if isinstance(p, Mapping) else {"": p}
    for rate in rates.values():
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise RangeError.of("wrap", "p", "lie in [0, 1)", repr(rate), "Pass dropout rates")
    return {name: float(rate) for name, rate in rates.items()}


def check_choice(function: str, argument: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is not one of the choices."""
    if value not in choices:
        raise RangeError.of(
            function, argument, f"be one of {choices}", repr(value), "Choose one of these"
        )


def require_fitted(function: str, fitted: Fitted | None, data: str) -> Fitted:
    """Return what `fit` left behind, or say that ``fit(data)`` has not run."""
    if fitted is None:
        raise UnsupportedError.of(
            function, "self", "be fitted", "no fit so far", f"Call fit({data}) first"
        )
    return fitted


def checked_noise(function: str, noise_std: float | Tensor | None) -> Tensor | None:
    """Return the noise as a tensor, a number or one value per output."""
    if noise_std is None:
        return None
    noise = torch.as_tensor(noise_std, dtype=torch.float64)
    if not bool(((noise > 0) & noise.isfinite()).all()):
        raise RangeError.of(
            function,
            "noise_std",
            "be a positive number, or one per output",
            noise_std,
            "Pass the standard deviation of the observation noise in units of y",
        )
    return noise
