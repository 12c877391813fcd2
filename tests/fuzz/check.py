"""One random program: its passes against train mode and against one pass at a time.

Three rounds of more and more passes; a model fails only if it leaves the bounds in all three. The
last one compares two statistics by |z| < 5, each with probability 6e-7 of a false alarm if sums
over hundreds of passes are normal: below 0.3 % for 2,000 models.
"""

from __future__ import annotations

import copy
import random
import traceback
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mcdrop._engine.plan import Memory
from mcdrop.errors import McdropError, NoDropoutError
from tests import passes
from tests.fuzz.program import Program

__all__ = ["FAILURE", "outcome"]

FAILURE = "FAILURE"
"""How the outcome of a program that fails begins."""

# Passes of ours, passes in train mode, and what |z| may be.
_ROUNDS = ((64, 16, 2.0), (512, 256, 3.0), (4096, 2048, 5.0))


class _Draws(TorchDispatchMode):
    """Counts random operators: every dropout of torch ends in one of them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


def outcome(program: Program) -> str:
    """Check a program; return "agrees", how it was refused or warned of, or what fails."""
    model, x = program.made()
    before = _everything(model), _generators(), x.clone()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = _compared(program, model, x)
    except McdropError as error:
        found = f"refused: {type(error).__name__}"
        if isinstance(error, NoDropoutError) and _count(program, x) > program.n_raw:
            found = f"{FAILURE}: {error}"
    except Exception:  # noqa: BLE001, RUF100  # whatever it raises is a finding
        found = f"{FAILURE}: {traceback.format_exc(limit=-3)}"
    else:
        ours = [str(w.message) for w in caught if "mcdrop" in str(w.message)]
        if found.startswith(FAILURE) and ours:
            found = f"warned: {ours[0][:60]}"
    after = _everything(model), _generators(), x
    if not (_same(before[0], after[0]) and before[1] == after[1] and torch.equal(x, before[2])):
        return f"{FAILURE}: the model, its input or a generator was changed"
    return found


def _compared(program: Program, model: nn.Module, x: Tensor) -> str:
    """Compare distributions with train mode, and numbers with passes one by one."""
    n, n_native, _ = _ROUNDS[0]
    # Both strategies may share what was learned about the model, as under one wrapper.
    options: Any = {"select": program.output.select, "memory": Memory()}
    options["stratified"] = program.seed % 2 == 1
    found, run = passes.draw(model, x, n, **options)
    # Few passes are other ones than the first of many.
    few, _ = passes.draw(model, x, 3, **options)
    alone, _ = passes.draw(model, x, 3, "sequential", **options)
    if not torch.allclose(few, alone, rtol=1e-3, atol=1e-4 * float(found.abs().amax())):
        off = float((few - alone).abs().max())
        return f"{FAILURE}: {run.strategy} and sequential passes are {off:.2g} apart"
    n_draws = _count(program, x)
    n_fired = sum(site.fired for site in run.sites)
    if not program.draws_its_own and n_fired != n_draws - program.n_raw:
        names = ", ".join(site.name for site in run.sites if site.fired)
        return f"{FAILURE}: {n_fired} sites for {n_draws - program.n_raw} draws: {names}"
    for n, n_native, bound in _ROUNDS:
        native = _native(program, x, n_native)
        if n != len(found):
            found, _ = passes.draw(model, x, n, seed=n, **options)
        far = _distance(found, native)
        if far < bound:
            return f"agrees, {run.strategy}"
    spreads = found.double().var(dim=0).sum().sqrt(), native.double().var(dim=0).sum().sqrt()
    return f"{FAILURE}: z = {far:.1f}, spread {spreads[0]:.4g} for {spreads[1]:.4g} in train mode"


def _distance(ours: Tensor, native: Tensor) -> float:
    """Return the larger |z| of two comparisons: a weighted mean, and the total variance."""
    a, b = (samples.double().flatten(1) for samples in (ours, native))
    if not (a.isfinite().all() and b.isfinite().all()):
        return 0.0 if a.isfinite().all() == b.isfinite().all() else float("inf")
    # Rounding, which is all that is left where a spread is zero.
    least = 1e-6 * max(float(a.abs().amax()), float(b.abs().amax()), 1e-30)
    weights = torch.linspace(1, 2, a.shape[1], dtype=torch.float64)
    u, v = a @ weights, b @ weights
    error = (u.var() / len(u) + v.var() / len(v)).sqrt()
    of_mean = (u.mean() - v.mean()).abs() / (error + least * len(weights))
    (s, s_error), (t, t_error) = _total_variance(a), _total_variance(b)
    of_variance = (s - t).abs() / ((s_error**2 + t_error**2).sqrt() + least**2 * len(weights))
    return float(torch.maximum(of_mean, of_variance))


def _total_variance(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the variances of all outputs, with its standard error."""
    n = len(flat)
    squares = (flat - flat.mean(dim=0)).square().sum(dim=1)
    total = squares.sum() / (n - 1)
    # The second term is that of the mean, which is all where deviations are of one size (p = 0.5).
    return total, (squares.var() / n + 2 * (total / n) ** 2).sqrt()


def _trained(program: Program) -> nn.Module:
    """Return the model in train mode, made anew, with statistics frozen."""
    twin = program.made()[0].train()
    for module in twin.modules():
        if hasattr(module, "running_mean"):
            module.eval()
    return twin


def _native(program: Program, x: Tensor, n: int) -> Tensor:
    """Run torch's own train mode; each pass finds the model as it is."""
    outputs = []
    twin = _trained(program)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(program.seed + n)
        for _ in range(n):
            fresh = copy.deepcopy(twin) if program.has_state else twin
            outputs.append(_picked(program, fresh(x.clone())).clone())
    return torch.stack(outputs)


def _count(program: Program, x: Tensor) -> int:
    """Count the draws of one pass in train mode."""
    twin = _trained(program)
    with torch.random.fork_rng(), torch.no_grad(), _Draws() as draws:
        twin(x.clone())
    return draws.count


def _picked(program: Program, output: Any) -> Tensor:
    select = program.output.select
    return output if select is None else output[select]


def _everything(model: nn.Module) -> list[tuple[str, dict[str, Any]]]:
    """Return the attributes of all modules, with copies of tensors and containers."""
    found = []
    for name, module in model.named_modules():
        held = {k: v for k, v in vars(module).items() if k != "_modules" and not callable(v)}
        found.append((name, copy.deepcopy(held)))
    return found


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)


def _generators() -> tuple[object, ...]:
    numbers: Any = np.random.get_state(legacy=True)
    return bytes(torch.get_rng_state().numpy()), numbers[1].tobytes(), random.getstate()
