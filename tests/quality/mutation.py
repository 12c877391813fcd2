"""One fault at a time: are there tests that notice?

A mutant is killed if a test of its module fails. A process that has loaded torch once forks for
each mutant, which is why this takes a second where the usual tools, which start Python anew, take
ten.

    python -m tests.quality.mutation --sample 300 --json docs/data/mutants.json
    python -m tests.quality.mutation --again --json docs/data/mutants.json

A run that was stopped goes on where it was, as long as the files under test have not changed. With
`--again`, the survivors of the record that are not explained meet the tests around them as well:
those of the modules that import theirs, and those of their folder that name what is public in it.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import re
import signal
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tests.quality.explained import MUTANTS
from tests.quality.mutants import ROOT, Mutant, mutants_of, mutated, targets

__all__ = ["more_tests", "outcome", "own_tests"]

# Loaded once for all forks; the forks load the package, each with its own fault.
_LOADED = [
    "hypothesis.extra.numpy",
    "pandas",
    "pytest",
    "scipy.stats",
    "scoringrules",
    "sklearn",
    "torch",
]
# Processor seconds after which a loop counts as one without end; and of the clock, for a deadlock.
_SECONDS = 60
_CLOCK = 900


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads the mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(_module(mutant.path), str(ROOT / mutant.path))
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


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def own_tests(path: str) -> tuple[str, ...]:
    """Return the tests of a file: those of its name, and its examples."""
    return (_twin(path), path)


def _twin(path: str) -> str:
    inside = Path(path).relative_to("mcdrop")
    return str(Path("tests") / inside.with_name(f"test_{inside.name.lstrip('_')}"))


@cache
def more_tests(path: str) -> tuple[str, ...]:
    """Return the other tests that a file has: of files that import it, and of its public names."""
    names = re.compile(rf"\b({'|'.join(_public(ROOT / path))})\b")
    twin = ROOT / _twin(path)
    found = [
        str(other.relative_to(ROOT))
        for other in sorted(twin.parent.glob("test_*.py"))
        if other.name == "test_names.py" or names.search(other.read_text())
    ]
    for source in sorted((ROOT / "mcdrop").rglob("*.py")):
        if source.name != "__init__.py" and f"from {_module(path)} import" in source.read_text():
            found.append(_twin(str(source.relative_to(ROOT))))
    return tuple(dict.fromkeys(each for each in found if each != _twin(path)))


def _public(path: Path) -> list[str]:
    """Return what a file lists in `__all__`, without importing it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return ["-"]


def outcome(tests: Sequence[str], mutant: Mutant | None) -> str:
    """Run tests in a fork.

    Args:
        tests: Files of tests.
        mutant: The fault in the package; None for none, with which they have to pass.

    Returns:
        "killed" or "survived".
    """
    import resource  # Windows has neither this nor fork, but imports the file.

    # A fork would not load it again, and so without the fault.
    if any(name.split(".")[0] == "mcdrop" for name in sys.modules):
        raise RuntimeError("outcome: the package is loaded already")
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        signal.alarm(_CLOCK)
        os._exit(_run(tests, mutant))
    _, status = os.waitpid(child, 0)
    passed = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
    return "survived" if passed else "killed"


def _run(tests: Sequence[str], mutant: Mutant | None) -> int:
    import pytest

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(mutant))
    # The hook that rewrites assertions would import the file in place of the mutant.
    options = ["--assert=plain", "-x", "-q", "-p", "no:xdist", "-m", "not slow"]
    return int(pytest.main([*options, *tests]))


@cache
def _passes(tests: tuple[str, ...]) -> bool:
    """Whether tests pass without a fault: those that fail anyway kill nothing."""
    return outcome(tests, None) == "survived"


def noticed(mutant: Mutant, *, around: bool) -> bool:
    """Whether a test of the file notices the fault, or (`around`) those around it.

    Raises:
        RuntimeError: If the tests of the file fail without the fault.
    """
    own = own_tests(mutant.path)
    if outcome(own, mutant) == "killed":
        if not _passes(own):
            raise RuntimeError(f"{own[0]} fails, or takes over {_SECONDS} s, without any fault")
        return True
    others = [(test,) for test in more_tests(mutant.path)] if around else []
    return any(outcome(test, mutant) == "killed" and _passes(test) for test in others)


def main() -> None:
    """Run a sample of all mutants in random order; write after each what came of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sample", type=int, default=300, help="how many mutants; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--again", action="store_true", help="try the survivors of the record")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    _load()
    mutants = [mutant for path in targets() for mutant in mutants_of(path)]
    random.Random(arguments.seed).shuffle(mutants)
    record = _start(mutants, arguments)
    survived = record["survived"]
    chosen = mutants[record["run"] : arguments.sample or None]
    if arguments.again:
        explained = {each for mutants in MUTANTS.values() for each in mutants}
        chosen = [mutant for mutant in mutants if str(mutant) in set(survived) - explained]
    for mutant in chosen:
        found = noticed(mutant, around=arguments.again)
        print("killed  " if found else "survived", str(mutant)[:160], flush=True)  # noqa: T201
        if arguments.again and found:
            survived.remove(str(mutant))
        elif not arguments.again:
            record["run"] += 1
            survived += [] if found else [str(mutant)]
        record["killed"] = record["run"] - len(survived)
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


def _load() -> None:
    """Load what the tests need, once for all forks, but nothing of the package."""
    for name in _LOADED:
        importlib.import_module(name)


def _start(mutants: list[Mutant], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the record of a run over the same mutants in the same order, or that of none."""
    digest = hashlib.sha256("\n".join(map(str, mutants)).encode()).hexdigest()[:16]
    empty = {
        "command": f"python -m tests.quality.mutation --seed {arguments.seed}",
        "possible": len(mutants),
        "order": digest,
        "run": 0,
        "killed": 0,
        "survived": [],
    }
    record = json.loads(arguments.json.read_text()) if arguments.json.exists() else empty
    return record if arguments.again or record.get("order") == digest else empty


if __name__ == "__main__":
    main()
