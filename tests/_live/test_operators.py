"""Operators are seen as they run, and their schemas are read."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from mcdrop._live import functorch, operators
from mcdrop._live.operators import OperatorMode


def test_operators_tell_what_they_write_to_and_whether_they_draw() -> None:
    x = torch.ones(3)
    aten = torch.ops.aten
    assert functorch.has_operator_modes()
    assert operators.written_by(aten.add.Tensor, (x, x)) == []
    (written,) = operators.written_by(aten.add_.Tensor, (x, 1))
    assert written is x
    assert operators.takes_generator(aten.bernoulli_.float)
    assert not operators.takes_generator(aten.add.Tensor)


class Seen(OperatorMode):
    """Notes the names of operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note the name and run it."""
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("loaded", [True, False])
def test_a_mode_sees_operators_with_and_without_the_compiler(
    loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "compiler_is_loaded", lambda: loaded)
    with Seen() as seen:
        found = torch.ones(2).add(1, alpha=2)
    assert seen.names == ["ones", "add"]
    assert found.tolist() == [3, 3]


_FIRST_PREDICTION = """
import sys, torch, mcdrop
net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5))
net(torch.zeros(2, 3))
torch.func.vmap(torch.neg)(torch.zeros(2))  # For this, torch 2.4 loads the compiler itself.
before = set(sys.modules)
for task in "regression", "classification":
    for n_samples in 2, 20, 50, 100:
        mcdrop.wrap(net).predict_with_uncertainty(torch.zeros(2, 3), task=task, n_samples=n_samples)
print({"torch._dynamo", "sympy", "scipy", "pandas", "sklearn"} & (set(sys.modules) - before))
"""


def test_a_first_prediction_loads_neither_the_compiler_nor_scipy() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _FIRST_PREDICTION], capture_output=True, text=True, check=True
    )
    assert run.stdout == "set()\n"
