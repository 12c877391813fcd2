"""One fault at a time: are there tests that notice?

Every mutant differs from the package in one operator, constant or condition. It is killed if a test
of its module fails. A process that has loaded torch once forks for each mutant, which is why this
takes a second where the usual tools, which start Python anew, take ten.

    python -m tests.quality.mutation --sample 300 --json docs/data/mutants.json
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

__all__ = ["Mutant", "mutants_of", "targets"]

ROOT = Path(__file__).parents[2]
# Numba compiles the code of its file, for seconds; the same numbers are tested against NumPy's.
_LEFT_OUT = ("numba_kernels.py", "__init__.py")

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
        line: Line of the fault.
        before: Source of what was changed.
        after: Source of what stands there instead.
        place: Number of the changed node in a walk over the tree.
        variant: Number of the change, where a node has several.
    """

    path: str
    line: int
    before: str
    after: str
    place: int
    variant: int


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
    tree = ast.parse(path.read_text())
    skipped = _not_code(tree)
    found = []
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        for variant, changed in enumerate(_changes(node)):
            before, after = _shown(node), _shown(changed)
            name = str(path.relative_to(ROOT))
            line = getattr(node, "lineno", 0)
            found.append(Mutant(name, line, before, after, place, variant))
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


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads the mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        name = mutant.path.removesuffix(".py").replace("/", ".")
        super().__init__(name, str(ROOT / mutant.path))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return mutated(self._mutant)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the mutant where its module is imported."""

    def __init__(self, mutant: Mutant) -> None:
        self.loader = _Loader(mutant)

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self.loader.name:
            return None
        return importlib.util.spec_from_file_location(name, self.loader.path, loader=self.loader)


def tests_of(path: str) -> list[str]:
    """Return the tests of a file: those of its name, and its examples."""
    inside = Path(path).relative_to("mcdrop")
    return [str(Path("tests") / inside.with_name(f"test_{inside.name.lstrip('_')}")), path]


def outcome(path: str, mutant: Mutant | None, seconds: int = 60) -> tuple[str, float]:
    """Run the tests of a file in a fork.

    Args:
        path: The file.
        mutant: The fault in it; None for none, with which they have to pass.
        seconds: Processor time after which the tests count as failed: a loop without end.

    Returns:
        "killed" or "survived", and the processor time.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        os._exit(_run(path, mutant))
    _, status = os.waitpid(child, 0)
    survived = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return "survived" if survived else "killed", spent


def _run(path: str, mutant: Mutant | None) -> int:
    import pytest

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(mutant))
    # The hook that rewrites assertions would import the file in place of the mutant.
    options = ["--assert=plain", "-x", "-q", "-p", "no:xdist", "-m", "not slow"]
    return int(pytest.main([*options, *tests_of(path)]))


def main() -> None:
    """Run a sample of all mutants in random order; write after each what came of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sample", type=int, default=300, help="how many mutants; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the path")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    _load()
    paths = [path for path in targets() if arguments.only in str(path)]
    mutants = [mutant for path in paths for mutant in mutants_of(path)]
    random.Random(arguments.seed).shuffle(mutants)
    found: list[dict[str, Any]] = []
    for mutant in mutants[: arguments.sample or None]:
        how, seconds = outcome(mutant.path, mutant)
        told = f"{mutant.path}:{mutant.line}: {mutant.before} -> {mutant.after}"
        print(f"{how:8} {seconds:5.1f} s  {told[:150]}", flush=True)  # noqa: T201
        found.append({"outcome": how, "mutant": told})
        if arguments.json is not None:
            arguments.json.write_text(_record(found, len(mutants), arguments))


def _load() -> None:
    """Load what all tests need, but nothing of the package, nor plugins that pytest rewrites."""
    for name in ("numpy", "pandas", "scipy.stats", "sklearn", "torch"):
        importlib.import_module(name)
    assert not any(name.split(".")[0] == "mcdrop" for name in sys.modules)


def _record(found: list[dict[str, Any]], n_possible: int, arguments: argparse.Namespace) -> str:
    survivors = [each["mutant"] for each in found if each["outcome"] == "survived"]
    record = {
        "command": "python -m tests.quality.mutation "
        f"--sample {len(found)} --seed {arguments.seed}",
        "possible": n_possible,
        "run": len(found),
        "killed": len(found) - len(survivors),
        "survived": survivors,
    }
    return json.dumps(record, indent=2) + "\n"


if __name__ == "__main__":
    main()
