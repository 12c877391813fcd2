"""Checks of what the caller passed, before anything runs.

`require_...` refuses a bad argument and returns nothing; `checked_...` also returns the argument in
the form used inside. First options, then models and rates, then arrays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from importlib import import_module
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError

__all__ = [
    "as_number",
    "checked_device",
    "checked_mapping",
    "checked_model",
    "checked_noise",
    "checked_passes",
    "checked_positive",
    "checked_rate",
    "checked_rates",
    "require_choice",
    "require_count",
    "require_finite",
    "require_fitted",
    "require_flag",
    "require_installed",
    "require_labels",
    "require_probabilities",
    "require_readable",
    "require_rows",
    "require_same_shape",
    "require_seed",
    "require_spread",
    "require_unit",
    "rows_text",
    "shown",
]

Fitted = TypeVar("Fitted")


def require_choice(function: str, argument: str, value: object, choices: Collection[str]) -> None:
    """Require one of the named options."""
    if not isinstance(value, str) or value not in choices:
        named = ", ".join(f'"{choice}"' for choice in choices)
        raise RangeError.of(
            function, argument, f"be one of {named}", repr(value), "Pick one of these names"
        )


def require_count(
    function: str,
    argument: str,
    value: object,
    least: int = 1,
    *,
    auto: bool = False,
    remedy: str = "Pass a number",
) -> None:
    """Require an integer of at least `least`, Python's or NumPy's; or "auto" where allowed."""
    if auto and isinstance(value, str) and value == "auto":
        return
    if not _is_count(value, least):
        condition = f"be an integer of at least {least}" + (', or "auto"' if auto else "")
        raise RangeError.of(function, argument, condition, repr(value), remedy)


def _is_count(value: object, least: int) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and value >= least  # type: ignore[operator]


def require_flag(function: str, argument: str, value: object) -> None:
    """Require True or False: "no" would count as True."""
    if not isinstance(value, bool | np.bool_):
        remedy = "Pass one of the two"
        raise RangeError.of(function, argument, "be True or False", repr(value), remedy)


def require_seed(function: str, argument: str, value: object) -> None:
    """Require an integer that seeds NumPy's and scikit-learn's generators as well as torch's."""
    if not _is_count(value, 0) or value >= 2**32:  # type: ignore[operator]
        condition = "be an integer from 0 to 2**32 - 1"
        raise RangeError.of(function, argument, condition, repr(value), "Pass 0")


def as_number(value: object) -> float:
    """Return a number as a float, anything else as NaN, which fails every comparison."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    return float(value)


def require_unit(
    function: str,
    argument: str,
    value: object,
    *,
    one: bool = False,
    remedy: str = "Write ninety percent as 0.9",
) -> None:
    """Require a number strictly between 0 and 1, or 1 itself where `one` is allowed."""
    number = as_number(value)
    if not (0 < number < 1 or (one and number == 1)):
        condition = "lie in (0, 1]" if one else "lie in (0, 1)"
        raise RangeError.of(function, argument, condition, repr(value), remedy)


def checked_positive(function: str, argument: str, value: object, *, zero: bool = False) -> float:
    """Return a finite number above 0 as a float, or of at least 0 where `zero` is allowed."""
    number = as_number(value)
    if not 0 < number < math.inf and not (zero and number == 0):
        condition = f"be a finite number {'of at least' if zero else 'above'} 0"
        raise RangeError.of(function, argument, condition, repr(value), "Pass a positive number")
    return number


def require_fitted(function: str, fitted: Fitted | None, data: str) -> Fitted:
    """Return what `fit` left behind, or say that ``fit(data)`` has not run."""
    if fitted is None:
        raise UnsupportedError.of(
            function, "self", "be fitted", "no fit so far", f"Call fit({data}) first"
        )
    return fitted


def checked_mapping(
    function: str, argument: str, values: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Return values by name, none for None; refuse what has no names.

    Args:
        function: Public function to name in errors.
        argument: Its argument, without quotes.
        values: A dict or None.

    Raises:
        UnsupportedError: If it is no mapping.
    """
    if values is None or isinstance(values, Mapping):
        return values or {}
    raise UnsupportedError.of(
        function,
        argument,
        "be a dict by name",
        type(values).__name__,
        f'Pass {argument}={{"name": ...}}',
    )


def require_installed(function: str, module: str, extra: str) -> None:
    """Require a module that only an extra of the package installs."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise UnsupportedError.of(
            function,
            module,
            "be installed",
            "no such module",
            f'Install it: pip install "mcdrop[{extra}]"',
        ) from error


def checked_device(function: str, device: object) -> torch.device | None:
    """Return a device that is there; None for where the model is."""
    if device is None:
        return None
    try:
        found = torch.device(device)  # type: ignore[call-overload]
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise RangeError.of(
            function,
            "device",
            "be a device that torch can use, or None for where the model is",
            f"{device!r} ({reason})",
            "Leave it out, or pass 'cpu'",
        ) from None
    return found


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
        condition = "be an integer of at least 2, or 'auto'"
        raise RangeError.of(function, "n_samples", condition, repr(n_samples), "Pass a number")
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
        kind = type(model).__name__
        remedy = "Pass the trained model itself"
        raise UnsupportedError.of("wrap", "model", "be a torch.nn.Module", kind, remedy)
    scripted = [
        name or "model"
        for name, module in model.named_modules()
        if isinstance(module, torch.jit.ScriptModule)
    ]
    if scripted:
        raise UnsupportedError.of(
            "wrap",
            "model",
            "run as Python code, where its dropout can be seen",
            f"TorchScript in {', '.join(scripted[:5])}",
            "Wrap the original module, or a torch.export program",
        )
    empty = [n for n, weight in model.named_parameters() if is_lazy(weight) or weight.is_meta]
    if empty:
        raise UnsupportedError.of(
            "wrap",
            "model",
            "have weights with values",
            f"lazy or meta ones, such as {empty[0]}",
            "Run the model once, or load its weights",
        )
    return model


def checked_rate(function: str, p: object) -> float:
    """Return a dropout rate as a float; at 1 no unit would survive to be scaled up."""
    rate = as_number(p)
    if not 0 <= rate < 1:
        remedy = "Pass the probability with which a unit is dropped"
        raise RangeError.of(function, "p", "lie in [0, 1)", repr(p), remedy)
    return rate


def checked_rates(p: float | Mapping[str, float] | None) -> dict[str, float]:
    """Return the overriding rates by site name; the key "" stands for all sites."""
    if p is None:
        return {}
    rates = dict(p) if isinstance(p, Mapping) else {"": p}
    return {name: checked_rate("wrap", rate) for name, rate in rates.items()}


def checked_noise(function: str, noise_std: float | Tensor | None) -> Tensor | None:
    """Return the standard deviation of the observation noise: a number, or one per output."""
    if noise_std is None:
        return None
    device = noise_std.device if isinstance(noise_std, Tensor) else "cpu"
    noise = torch.as_tensor(noise_std, dtype=torch.float64, device=device)
    if not bool(((noise > 0) & noise.isfinite()).all()):
        raise RangeError.of(
            function,
            "noise_std",
            "be a positive number, or one per output",
            noise_std,
            "Pass the standard deviation of the observation noise in units of y",
        )
    return noise


def require_readable(function: str, argument: str, value: object) -> None:
    """Refuse an array some of whose numbers cannot be read; what is no array passes.

    Args:
        function: Public function to name in errors.
        argument: Its argument, without quotes.
        value: What the caller passed. NumPy forgets a mask when it converts an array, so that
            masked numbers would count.

    Raises:
        UnsupportedError: If it is a masked array, or a tensor without numbers of its own.
    """
    found, remedy = "", "Pass a dense tensor with data"
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        found, remedy = (
            f"{int(np.ma.getmaskarray(value).sum())} masked ones",
            "Drop these rows, or fill them",
        )
    elif isinstance(value, Tensor) and (value.is_meta or value.is_quantized or value.is_nested):
        kind = "meta" if value.is_meta else "quantized" if value.is_quantized else "nested"
        found = f"a {kind} tensor"
    elif isinstance(value, Tensor) and value.layout != torch.strided:
        found, remedy = "a sparse tensor", "Pass its .to_dense()"
    if found:
        raise UnsupportedError.of(function, argument, "hold numbers in all places", found, remedy)


def require_rows(function: str, name: str, values: Tensor) -> None:
    """Refuse scalars and arrays without a single element."""
    if values.ndim and values.numel():
        return
    wanted = "hold at least one row" if values.ndim else "have shape (N,) or (N, ...)"
    remedy = "Check how the rows were selected" if values.ndim else "Pass one value per row"
    raise ShapeError.of(function, name, wanted, f"shape {shown(values.shape)}", remedy)


def require_finite(function: str, *, axis: int = 0, **arrays: Tensor) -> None:
    """Refuse NaN and infinity, naming the rows (along `axis`) that hold them."""
    for name, values in arrays.items():
        finite = torch.isfinite(values)
        if not bool(finite.all()):
            found = f"NaN or infinity in {rows_text(~finite, axis)}"
            remedy = "Drop or repair these rows"
            raise NonFiniteError.of(function, name, "hold finite numbers", found, remedy)


def require_same_shape(
    function: str, name: str, values: Tensor, y: Tensor, *, to: str = "y"
) -> None:
    """Require the shape of `y`, which the caller knows as `to`; nothing is broadcast."""
    if values.shape == y.shape:
        return
    if values.shape == (*y.shape, 1):
        remedy = f"Drop the last axis: {name}.squeeze(-1)"
    elif y.shape == (*values.shape, 1):
        remedy = f"Drop the last axis of `{to}`: {to}.squeeze(-1)"
    else:
        remedy = f"Pass one value for each of `{to}`"
    condition = f"have shape {shown(y.shape)} to match `{to}`"
    raise ShapeError.of(function, name, condition, shown(values.shape), remedy)


def require_spread(
    function: str, name: str, values: Tensor, *, axis: int = 0, zero: bool = False
) -> None:
    """Require standard deviations above 0, or of at least 0 where `zero` is allowed."""
    bad = values < 0 if zero else values <= 0
    if bool(bad.any()):
        condition = "be at least 0" if zero else "be greater than 0"
        remedy = "Add the observation noise or drop these rows"
        if bool((values < 0).any()):
            remedy = "Pass standard deviations, not logarithms"
        raise RangeError.of(function, name, condition, _first(values, bad, axis), remedy)


def require_probabilities(function: str, name: str, p: Tensor, *, slack: float = 0.0) -> None:
    """Require numbers between 0 and 1, above which `slack` allows for rounding."""
    bad = (p < 0) | (p > 1 + slack)
    if bool(bad.any()):
        remedy = "Pass probabilities, not logits: apply softmax or sigmoid first"
        raise RangeError.of(function, name, "lie in [0, 1]", _first(p, bad), remedy)


def require_labels(function: str, name: str, labels: Tensor, classes: int) -> None:
    """Require integers from 0 to classes - 1."""
    bad = (labels < 0) | (labels >= classes) | (labels != labels.floor())
    if bool(bad.any()):
        condition = f"hold class indices from 0 to {classes - 1}"
        remedy = "Number the classes from 0 in the order of the columns"
        if classes == 2:
            remedy = "Code the two outcomes as 0 and 1"
        raise RangeError.of(function, name, condition, _first(labels, bad), remedy)


def _first(values: Tensor, bad: Tensor, axis: int = 0) -> str:
    return f"{float(values[bad][0]):g} in {rows_text(bad, axis)}"


def rows_text(bad: Tensor, axis: int = 0) -> str:
    """Name the first rows where `bad` is true, such as "rows 3, 7, 8 and 5 more"."""
    by_row = bad.movedim(axis, 0).reshape(bad.shape[axis], -1).any(dim=1)
    rows = torch.nonzero(by_row).flatten().tolist()
    if len(rows) == 1:
        return f"row {rows[0]}"
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return "rows " + ", ".join(map(str, rows[:3])) + more


def shown(shape: torch.Size | tuple[int, ...]) -> str:
    """Write a shape as the reader types it."""
    return str(tuple(shape))
