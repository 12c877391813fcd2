"""The house: imports run one way, names are what they claim to be, every module has its test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import mcdrop

PACKAGE = Path(mcdrop.__file__).parent
ROOT = PACKAGE.parent
# From the foundation upwards; a file imports from its own floor and those above in this list.
FLOORS = [
    "errors",
    "checks",
    "_trees",
    "_modes",
    "_disk",
    "_masks",
    "_fusion",
    "_live",
    "_twin",
    "metrics",
    "layers",
    "_engine",
    "prediction",
    "_tasks",
    "acquisition",
    "rejection",
    "recalibration",
    "wrapper",
    "one_call",
    "estimators",
    "_export",
    "baselines",
    "comparison",
    "displays",
    "report",
    "ray",
    "_files",
    "mlflow",
    "cli",
]
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
EACH_SOURCE = pytest.mark.parametrize(
    "path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE))
)
# Names of torch that it does not promise to keep.
PRIVATE = re.compile(
    r"torch\._(?!_version)\w+|_functorch|_DropoutNd|_version\(|\._version|"
    r"_python_dispatch|_overloadpacket|_orig_mod"
)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(["mcdrop", *(part for part in parts if part != "__init__")])


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of the package that a file imports, anywhere in it."""
    modules = {module_of(source) for source in SOURCES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            home = node.module or ""
            names = [f"{home}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else home for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def imports() -> dict[str, set[str]]:
    """Return the modules of the package that each of them imports."""
    return {
        module_of(path): {name for name in imported(path) if name.startswith("mcdrop.")}
        for path in SOURCES
    }


def floor(module: str) -> int:
    return FLOORS.index(module.split(".")[1])


def test_every_floor_exists_and_every_file_stands_on_one() -> None:
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES}
    assert found == set(FLOORS)


@EACH_SOURCE
def test_imports_run_one_way(path: Path) -> None:
    own = module_of(path)
    for name in imports()[own]:
        assert floor(name) <= floor(own), f"{own} imports {name} from above"


def test_no_imports_run_in_a_circle() -> None:
    left = {name: set(others) - {name} for name, others in imports().items()}
    while left:
        free = [name for name, others in left.items() if not others & left.keys()]
        assert free, f"imports run in a circle among {sorted(left)}"
        for name in free:
            del left[name]


@EACH_SOURCE
def test_files_stay_short_and_say_what_they_raise(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert), f"{path.name}: validation by assert"
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else ""
            assert caught not in {"", "Exception", "BaseException"}, f"{path.name}: blind except"


@EACH_SOURCE
def test_two_files_alone_touch_private_names_of_torch(path: Path) -> None:
    found = PRIVATE.findall(path.read_text())
    assert not found or path.name in {"functorch.py", "compiler.py"}, f"{path.name} uses {found}"


@EACH_SOURCE
def test_every_module_has_its_test(path: Path) -> None:
    if path.name == "__init__.py":
        return
    inside = path.relative_to(PACKAGE)
    twin = ROOT / "tests" / inside.with_name(f"test_{inside.name.lstrip('_')}")
    assert twin.exists(), f"{inside} has no {twin.relative_to(ROOT)}"


def test_public_names_exist_and_are_listed() -> None:
    assert sorted(mcdrop.__all__) == list(mcdrop.__all__)
    for name in mcdrop.__all__:
        assert getattr(mcdrop, name) is not None
    assert set(mcdrop.__all__) <= set(dir(mcdrop))
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        mcdrop.guess  # noqa: B018


def test_version_heads_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{mcdrop.__version__}]" in changelog


def walk_on_the_page() -> list[tuple[str, str]]:
    """Return the steps of the walk in docs/architecture.md, as (file, function)."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    return re.findall(r"^\d+\. `mcdrop/([\w/]+\.py)`: `([\w.]+)`", page, flags=re.MULTILINE)


def test_the_page_on_architecture_shows_the_floors_in_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([\w`, /]+)` \|", page, flags=re.MULTILINE)
    named = [name.strip("`/ ") for row in rows for name in row.split(",")]
    assert named == FLOORS


def test_the_walk_on_the_page_goes_down_and_is_the_code() -> None:
    walk = walk_on_the_page()
    assert len({file for file, _ in walk}) <= 8
    for file, function in walk:
        tree = ast.parse((PACKAGE / file).read_text())
        names = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert set(function.split(".")) <= names, f"{file} has no {function}"
    modules = [module_of(PACKAGE / file) for file, _ in walk]
    for here, there in pairwise(modules):
        assert floor(there) <= floor(here), f"{here} climbs to {there}"
