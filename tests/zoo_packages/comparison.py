"""One model of another package, compared with its own train mode."""

from __future__ import annotations

import copy
import hashlib
import random
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mcdrop._engine.record import Run
from mcdrop.errors import McdropError, NoDropoutError
from tests import passes

__all__ = ["Row", "compare", "first_float"]

# Passes on each side; a model that seems to differ, or whose ratio has a larger standard error
# than _LOOSE, is run again with _MORE times as many.
_PASSES, _MORE, _LOOSE = 96, 6, 0.05
# Models whose forward call takes longer than this share of _SECONDS get fewer passes.
_SECONDS, _LEAST = 2.0, 16
# Standard errors, and a share of the spread, that the two sides may be apart.
_Z, _SHARE = 4.0, 0.02
# The shift of the mean over its expectation; for one effective direction P(chi2 > 16) = 6e-5.
_SHIFT = 16.0
_TRIED = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, AssertionError)


@dataclass
class Row:
    """One line of the table.

    Attributes:
        package: Name of the package.
        name: Class, with what is special about it.
        outcome: "agrees", "no dropout" (neither side is random), "refused", "not built" or
            "no reference" (train mode does not run), else what is wrong.
        sites: Dropout sites that fired.
        draws: Calls of random operators in one pass in train mode that eval mode does not make.
        ratio: Spread over that of train mode, the root of the ratio of summed variances.
        ratio_error: Its standard error.
        shift: Squared distance of the means over its expectation, 1 on average.
        strategy: How the passes ran.
        reason: Why, or the text of the error.
    """

    package: str
    name: str
    outcome: str = ""
    sites: int | None = None
    draws: int | None = None
    ratio: float | None = None
    ratio_error: float | None = None
    shift: float | None = None
    strategy: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


class _Draws(TorchDispatchMode):
    """Counts random operators: every dropout ends in one of them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


def first_float(output: Any) -> Tensor:
    """Pick the first floating point tensor of any output."""
    found = _first(output)
    if found is None:
        raise TypeError(f"no floating point tensor in {type(output).__name__}")
    return found


def _first(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output if output.is_floating_point() and output.numel() > 1 else None
    items = output.values() if isinstance(output, Mapping) else output
    if isinstance(output, str) or not hasattr(items, "__iter__"):
        return None
    return next((x for x in map(_first, items) if x is not None), None)


def call(model: nn.Module, inputs: Any) -> Any:
    """Call a model with inputs as `mcdrop` takes them."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def compare(
    package: str,
    name: str,
    model: nn.Module,
    inputs: Any,
    *,
    select: Callable[[Any], Tensor] = first_float,
) -> Row:
    """Compare the passes of `mcdrop` with those of train mode, BatchNorm frozen."""
    row = Row(package, name)
    n_passes = _affordable(model, inputs)
    try:
        native, row.draws = _in_train_mode(model, inputs, select, n_passes)
    except _TRIED as error:
        native, row.reason = None, _told(error)
        row.outcome = "no reference"
    before = _fingerprint(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours, run = passes.draw(model, inputs, n_passes, select=select)
            few, _ = passes.draw(model, inputs, 3, select=select)
            alone, _ = passes.draw(model, inputs, 3, "sequential", select=select)
    except NoDropoutError as error:
        dead = native is not None and bool((native.std(dim=0) == 0).all())
        row.outcome = "no dropout" if dead else "no sites"
        row.reason = _told(error)
        return row
    except McdropError as error:
        row.outcome, row.reason = "refused", _told(error)
        return row
    except _TRIED as error:
        row.outcome, row.reason = "crash", _told(error)
        return row
    _describe(row, run)
    if before != _fingerprint(model):
        row.outcome = "model changed"
    elif not torch.allclose(few, alone, rtol=1e-3, atol=1e-3 * float(alone.abs().amax())):
        row.outcome = "strategies differ"
    elif native is not None:
        row.outcome = _judged(row, ours, native)
        if row.outcome != "agrees" or (row.ratio_error or 0.0) > _LOOSE:
            n = _MORE * n_passes
            ours, _ = passes.draw(model, inputs, n, select=select, seed=1)
            row.outcome = _judged(row, ours, _in_train_mode(model, inputs, select, n)[0])
    return row


def _affordable(model: nn.Module, inputs: Any) -> int:
    """Return how many passes take a few seconds in train mode."""
    twin, own = copy.deepcopy((model, inputs))
    start = time.perf_counter()
    with torch.random.fork_rng(), torch.no_grad():
        call(twin, own)
    seconds = time.perf_counter() - start
    return max(_LEAST, min(_PASSES, int(_SECONDS / seconds)))


def _describe(row: Row, run: Run) -> None:
    row.sites = sum(site.fired for site in run.sites)
    row.strategy = run.strategy
    if run.strategy == "sequential":
        row.reason = run.reason[:200]


def _judged(row: Row, ours: Tensor, native: Tensor) -> str:
    """Enter spread and shift into the row; return the outcome."""
    if ours.shape[1:] != native.shape[1:]:
        return "shapes differ"
    (ours_total, ours_error), (total, error) = _total_variance(ours), _total_variance(native)
    if total == 0 or ours_total == 0:
        row.ratio = None
        return "agrees" if total == ours_total else "spread of zero on one side"
    ratio = (ours_total / total) ** 0.5
    relative = 0.5 * ((ours_error / ours_total) ** 2 + (error / total) ** 2) ** 0.5
    distance = (ours.double().mean(dim=0) - native.double().mean(dim=0)).square().sum().item()
    shift = distance / (ours_total / len(ours) + total / len(native))
    row.ratio, row.ratio_error = round(ratio, 4), round(ratio * relative, 4)
    row.shift = round(shift, 2)
    if abs(ratio - 1) > _Z * ratio * relative + _SHARE:
        return "spread differs"
    return "mean differs" if shift > _SHIFT else "agrees"


def _total_variance(samples: Tensor) -> tuple[float, float]:
    """Return the sum of the variances of all outputs, with its standard error."""
    flat = samples.double().flatten(1)
    squares = (flat - flat.mean(dim=0)).square().sum(dim=1)
    n = len(squares)
    return squares.sum().item() / (n - 1), squares.std().item() / n**0.5


def _in_train_mode(
    model: nn.Module, inputs: Any, select: Callable[[Any], Tensor], n: int
) -> tuple[Tensor, int]:
    """Run a copy in train mode with statistics frozen; return outputs and draws of one pass."""

    def fresh() -> nn.Module:
        twin = copy.deepcopy(model).train()
        for module in twin.modules():
            if hasattr(module, "running_mean"):
                module.eval()
        return twin

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        still, own = copy.deepcopy((model, inputs))
        with _Draws() as plain:
            first = select(call(still, own)).clone()
        # A model that keeps a state is made anew for each pass, as mcdrop does.
        is_constant = torch.equal(first, select(call(still, copy.deepcopy(inputs))))
        twin = fresh()
        with _Draws() as seen:
            call(twin, copy.deepcopy(inputs))
        outputs = []
        for _ in range(n):
            twin = twin if is_constant else fresh()
            outputs.append(select(call(twin, copy.deepcopy(inputs))).clone())
    return torch.stack(outputs), seen.count - plain.count


def _fingerprint(model: nn.Module) -> tuple[object, ...]:
    """Return what may not change: weights, buffers, flags, hooks and generators."""
    digest = hashlib.sha256()
    for tensor in (*model.parameters(), *model.buffers()):
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    flags = tuple(
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(vars(m)))
        for m in model.modules()
    )
    digest.update(torch.get_rng_state().numpy().tobytes())
    numbers: Any = np.random.get_state(legacy=True)
    digest.update(numbers[1].tobytes())
    return digest.hexdigest(), hash(random.getstate()), flags


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
