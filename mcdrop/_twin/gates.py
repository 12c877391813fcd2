"""Gates: modules that read their own `training` flag in Python code before they drop anything.

Most dropout is a function call, which the mode answers whatever the flag says. A gate does not
call it in eval mode: DropPath returns early, attention passes a rate of zero. On the structural
copy gates, and no other modules, get ``training = True``. They are found by reading the source of
their class, so that a module whose flag also switches something else is not opened.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from torch import nn

from mcdrop._live.call import DROPOUT_MODULES

__all__ = ["Gate", "gate_of", "rate_attribute"]

# DropPath, SwinDropPath, StochasticDepth, DropBlock2d, LockedDropout, ...
_RANDOM_NAME = re.compile(r"drop_?path|stochastic_?depth|drop_?block|drop", re.IGNORECASE)
_ALWAYS_RANDOM = re.compile(r"drop_?path|stochastic_?depth|drop_?block", re.IGNORECASE)
_RATE_ATTRIBUTES = ("drop_prob", "p", "drop_path", "drop_rate", "dropout", "prob", "rate")

Gate = Literal["rate", "random", "mixed"]


def gate_of(module: nn.Module) -> Gate | None:
    """Tell what the `training` flag of a module switches.

    Returns:
        "rate" if only the rate that it passes to a dropout function; "random" if the drawing of
        its own random numbers; "mixed" if a rate and something else; None if no dropout.
    """
    kind = type(module)
    # The layers of this library, and what derives from them, call dropout functions.
    live_already = any(base.__module__.startswith("mcdrop.layers.") for base in kind.__mro__)
    if live_already or kind.__module__.startswith("torch.nn."):
        return None
    if isinstance(module, DROPOUT_MODULES):
        return None
    if _ALWAYS_RANDOM.search(kind.__name__):
        return "random"
    uses = _uses_of_training(kind)
    if _RANDOM_NAME.search(kind.__name__) and next(module.children(), None) is None:
        return "random" if uses - {"argument"} else None
    if "draws" in uses and "other" not in uses:
        return "random"
    if "rate" in uses:
        return "mixed" if uses & {"other", "draws"} else "rate"
    return None


def rate_attribute(module: nn.Module) -> str | None:
    """Return the attribute that holds the rate of a module that draws its own numbers."""
    for name in _RATE_ATTRIBUTES:
        if isinstance(getattr(module, name, None), int | float):
            return name
    return None


@dataclass(frozen=True)
class _Use:
    """One use of ``.training`` with the syntax around it, innermost first."""

    node: ast.AST
    around: tuple[ast.AST, ...]

    def meaning(self) -> str:
        """Classify: "argument", "rate", "draws", "checkpoint" or "other"."""
        inner: ast.AST = self.node
        for outer in self.around:
            if "gradient_checkpointing" in ast.unparse(outer) and isinstance(outer, ast.BoolOp):
                return "checkpoint"
            if isinstance(outer, ast.keyword):
                if outer.arg in {"training", "train"} and outer.value is self.node:
                    return "argument"
                return "rate" if "drop" in ast.unparse(outer).lower() else "other"
            if isinstance(outer, ast.Call):
                return self._as_argument(outer, inner)
            if isinstance(outer, ast.If) and inner is outer.test:
                return "rate" if _only_drops(outer) else "other"
            if isinstance(outer, ast.stmt):
                return "rate" if "drop" in ast.unparse(outer).lower() else "other"
            inner = outer
        return "other"

    def _as_argument(self, call: ast.Call, inner: ast.AST) -> str:
        """Classify a positional argument of a call."""
        name = ast.unparse(call.func).lower()
        if inner is not self.node:
            return "rate" if "drop" in ast.unparse(call).lower() else "other"
        # `drop_path(x, p, self.training)`: a function of the module's own draws the numbers.
        own = "drop" in name and not name.startswith(("f.", "torch.", "nn."))
        return "draws" if own else "argument"


def _only_drops(statement: ast.If) -> bool:
    """Whether every statement under the flag calls a dropout, and there is no else branch."""

    def calls_dropout(line: ast.stmt) -> bool:
        calls = (node for node in ast.walk(line) if isinstance(node, ast.Call))
        return any("drop" in ast.unparse(call.func).lower() for call in calls)

    return not statement.orelse and all(map(calls_dropout, statement.body))


# Weak keys: classes that a notebook defines again must not stay alive.
_KNOWN_USES: WeakKeyDictionary[type[nn.Module], frozenset[str]] = WeakKeyDictionary()


def _uses_of_training(kind: type[nn.Module]) -> frozenset[str]:
    """Classify every use of ``self.training`` in the methods that a class and its bases define."""
    if kind in _KNOWN_USES:
        return _KNOWN_USES[kind]
    found: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.startswith("torch.") or base is object:
            continue
        for method in vars(base).values():
            if inspect.isfunction(method):
                found.update(use.meaning() for use in _uses_in(method))
    return _KNOWN_USES.setdefault(kind, frozenset(found))


def _uses_in(method: object) -> Iterator[_Use]:
    """Yield the uses of ``.training`` in the source of a method; none if there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))  # type: ignore[arg-type]
    except (OSError, TypeError, SyntaxError):
        return
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        reads = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        if reads and node.attr == "training":  # type: ignore[attr-defined]
            around, outer = [], parents.get(node)
            while outer is not None:
                around.append(outer)
                outer = parents.get(outer)
            yield _Use(node, tuple(around))
