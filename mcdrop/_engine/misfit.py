"""Names the inputs that a model cannot take, where torch names two matrices."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mcdrop._engine.batch import Batch
from mcdrop._engine.passes import Passes
from mcdrop._engine.settings import Settings
from mcdrop.errors import McdropError, ShapeError, UnsupportedError

__all__ = ["naming_misfits"]

# What torch says where types, or shapes, do not fit; errors of any other text stay as they are.
_ABOUT_TYPES = (
    "the same dtype",
    "should be the same",
    "expected scalar type",
    "scalar types",
    "not implemented for",
)
_ABOUT_SHAPES = (
    "cannot be multiplied",
    "channels",
    "size of tensor",
    "size mismatch",
    "must match the size",
    "Expected 2D",
    "Expected 3D",
    "Expected 4D",
    "input.size",
    "normalized_shape",
    "invalid for input of size",
)
# Checks of an exported program, which are assertions.
_ABOUT_GUARDS = "Guard failed"


@contextmanager
def naming_misfits(settings: Settings, passes: Passes, batch: Batch) -> Iterator[None]:
    """Turn torch's error about types or shapes into one that names the inputs and the module.

    The model has to fail on its own as well; errors that only random passes meet stay as they are.

    Args:
        settings: Settings of the prediction.
        passes: Runs the model.
        batch: The rows that it is run on.

    Raises:
        UnsupportedError: If the inputs have a type that the model cannot take, or are a dict
            without a key that it takes, or there are more or fewer of them than it takes.
        ShapeError: If they have a shape that it cannot take.
    """
    try:
        yield
    except (RuntimeError, AssertionError, TypeError) as error:
        found = _explained(settings, passes, batch)
        if found is None:
            raise
        raise found from error


def _unknown_keys(settings: Settings, batch: Batch) -> McdropError | None:
    """Return the error about a dict that was passed on whole, since no key is an argument."""
    keys = [sorted(given) for given in batch.args if isinstance(given, dict)]
    if not keys:
        return None
    forward = f"{type(settings.model).__name__}.forward"
    taken = list(inspect.signature(settings.model.forward).parameters)
    return UnsupportedError.of(
        settings.function,
        "inputs",
        f"hold the arguments {taken} of {forward}, or be a dict that it takes as one argument",
        f"keys {keys[0]}",
        "Rename the keys, or say what the model takes: prepare=lambda batch: ...",
    )


def _unbound(settings: Settings, batch: Batch) -> McdropError | None:
    """Return the error about arguments that forward does not take, or lacks."""
    signature = inspect.signature(settings.model.forward)
    try:
        signature.bind(*batch.args, **batch.kwargs)
    except TypeError as error:
        n_given, names = len(batch.args), sorted(batch.kwargs)
        by_name = f" and {names}" if names else ""
        return UnsupportedError.of(
            settings.function,
            "inputs",
            f"hold the arguments of {type(settings.model).__name__}.forward{signature}",
            f"{n_given} by position{by_name}, which fails: {error}",
            "Pass a tuple for arguments by position, a dict for arguments by name",
        )
    return None


def _explained(settings: Settings, passes: Passes, batch: Batch) -> McdropError | None:
    """Run the model as it is on all rows, and say in our own words how it fails."""
    try:
        passes.plain(batch)
    except TypeError as error:
        if "not dict" in str(error):
            return _unknown_keys(settings, batch)
        return _unbound(settings, batch)
    except (RuntimeError, AssertionError) as error:
        text = (str(error).splitlines() or [""])[0].rstrip(".")
        where = _where(error)
    else:
        return None
    weights = next((p.dtype for p in settings.model.parameters() if p.is_floating_point()), None)
    kind = type(settings.model).__name__
    if any(part in text for part in _ABOUT_TYPES):
        condition = f"be of a type that {kind} can take"
        types = ", ".join(dict.fromkeys(str(x.dtype) for x in batch.tensors()))
        remedy = _retyped(batch.tensors(), settings.dtype or weights)
        return UnsupportedError.of(
            settings.function, "inputs", condition, f"{types}, which fails{where}: {text}", remedy
        )
    if text.startswith(_ABOUT_GUARDS):
        shapes = ", ".join(str(tuple(x.shape)) for x in batch.tensors())
        return ShapeError.of(
            settings.function,
            "inputs",
            "have the shape that the program was exported for",
            f"{shapes} ({text})",
            "Export it with dynamic_shapes, or pass batches of that size",
        )
    if any(part in text for part in _ABOUT_SHAPES):
        shapes = ", ".join(str(tuple(x.shape)) for x in batch.tensors())
        return ShapeError.of(
            settings.function,
            "inputs",
            f"have a shape that {kind} can take",
            f"{shapes}, which fails{where}: {text}",
            _reshaped(batch.tensors()),
        )
    return None


def _retyped(inputs: list[Tensor], weights: torch.dtype | None) -> str:
    """Return what to do about inputs of the wrong type."""
    if any(x.dtype == torch.uint8 and x.ndim >= 3 for x in inputs):
        return "Scale images as in training, for example x.float() / 255"
    if any(x.is_floating_point() and x.dtype == weights for x in inputs):
        return "Pass indices as integers: x.long()"
    return f"Convert them to the type of the weights, {weights}"


def _reshaped(inputs: list[Tensor]) -> str:
    """Return what to do about inputs of the wrong shape."""
    if any(x.ndim == 1 for x in inputs):
        return "Put rows first: x.reshape(-1, 1) for one feature, x.reshape(1, -1) for one row"
    if any(x.ndim == 3 for x in inputs):
        return "Put rows first, then channels: x.unsqueeze(1) adds a channel, x.unsqueeze(0) a row"
    return "Put rows first, then the features or channels that the model was trained on"


def _where(error: BaseException) -> str:
    """Return the innermost module that was running, as ' in encoder.0 (Linear(4, 16))'."""
    running: list[nn.Module] = []
    traceback = error.__traceback__
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            running.append(owner)
        traceback = traceback.tb_next
    if not running:
        return ""
    root, innermost = running[0], running[-1]
    name = next((path for path, m in root.named_modules() if m is innermost), "")
    about = f"{type(innermost).__name__}({innermost.extra_repr()})"
    return f" in {name} ({about})" if name else ""
