"""Which single faults there are in a file: one operator, constant or condition changed."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = ["ROOT", "Mutant", "mutants_of", "mutated", "targets"]

ROOT = Path(__file__).parents[2]
# Numba and Triton compile the code of their files, for seconds, and Triton for a device alone; the
# same numbers are tested against NumPy's and torch's.
_LEFT_OUT = ("numba_kernels.py", "triton_kernels.py", "__init__.py")

_SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitXor: (ast.BitOr,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        path: File, from the root of the repository.
        line: Source of the line, by which the fault is found again when lines have moved.
        before: Source of what was changed.
        after: Source of what stands there instead.
        place: Number of the changed node in a walk over the tree.
        variant: Number of the change, where a node has several.
        copy: Number of the fault among those that read the same.
    """

    path: str
    line: str
    before: str
    after: str
    place: int
    variant: int
    copy: int = 1

    def __str__(self) -> str:
        number = f" ({self.copy})" if self.copy > 1 else ""
        return f"{self.path}: `{self.line}`: {self.before} -> {self.after}{number}"


def targets() -> list[Path]:
    """Return the files whose faults are looked for: masks, moments, metrics, recalibration."""
    package = ROOT / "mcdrop"
    folders = [package / name for name in ("_masks", "metrics", "recalibration")]
    found = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return [
        path for path in (*found, package / "_engine" / "moments.py") if path.name not in _LEFT_OUT
    ]


def mutants_of(path: Path) -> list[Mutant]:
    """Return every mutant of a file."""
    source = path.read_text()
    lines = source.splitlines()
    tree = ast.parse(source)
    skipped = _not_code(tree)
    found = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        for variant, changed in enumerate(_changes(node)):
            before, after = _shown(node), _shown(changed)
            name = str(path.relative_to(ROOT))
            line = lines[getattr(node, "lineno", 1) - 1].strip()
            reads = (line, before, after)
            seen[reads] += 1
            found.append(Mutant(name, *reads, place, variant, seen[reads]))
    return found


def _shown(node: ast.AST) -> str:
    return f"if {ast.unparse(node.test)}" if isinstance(node, ast.If) else ast.unparse(node)


def _not_code(tree: ast.AST) -> set[int]:
    """Return the nodes of texts, types, errors' wording and lists of names, by id."""
    skipped: set[int] = set()

    def skip(node: ast.AST | None) -> None:
        if node is not None:
            skipped.update(id(each) for each in ast.walk(node))

    for node in ast.walk(tree):
        if isinstance(node, ast.Raise | ast.ImportFrom | ast.Import):
            skip(node)
        elif isinstance(node, ast.FunctionDef):
            for part in (*node.decorator_list, node.returns):
                skip(part)
        elif isinstance(node, ast.ClassDef):
            for part in node.decorator_list:
                skip(part)
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
            skip(node)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            skip(node.annotation)
        elif isinstance(node, ast.keyword) and node.arg == "strict":
            skip(node)  # A guard against lengths that differ, which they do not.
        elif (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__") or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            skip(node)
    return skipped


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the faulty forms of a node."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        for swap in _SWAPS.get(type(node.op), ()):
            yield _with(node, op=swap())
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for swap in _SWAPS.get(type(node.ops[0]), ()):
            yield _with(node, ops=[swap()])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.If | ast.IfExp):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield _with(node, value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield _with(node, value=node.value + 1)


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def mutated(mutant: Mutant) -> CodeType:
    """Return the code of a file with the fault in it."""
    path = ROOT / mutant.path
    tree = ast.parse(path.read_text())
    node = list(ast.walk(tree))[mutant.place]
    changed = list(_changes(node))[mutant.variant]
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, changed)
            elif isinstance(value, list) and any(item is node for item in value):
                setattr(parent, name, [changed if item is node else item for item in value])
    return compile(ast.fix_missing_locations(tree), str(path), "exec")
