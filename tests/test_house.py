"""The house: imports run one way, and public names are what they claim to be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mcdrop

PACKAGE = Path(mcdrop.__file__).parent
# From the foundation upwards; a file imports from its own floor and those above in this list.
FLOORS = [
    "errors",
    "checks",
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
    "recalibration",
    "baselines",
    "wrapper",
    "report",
    "cli",
]
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def floor(module: str) -> int:
    return FLOORS.index(module.split(".")[1])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = ".".join(["mcdrop", *path.relative_to(PACKAGE).with_suffix("").parts])
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{own} uses a relative import"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("mcdrop."):
                assert floor(name) <= floor(own), f"{own} imports {name} from above"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short_and_say_what_they_raise(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert), f"{path.name}: validation by assert"
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else ""
            assert caught not in {"", "Exception", "BaseException"}, f"{path.name}: blind except"


def test_public_names_exist_and_are_listed() -> None:
    assert sorted(mcdrop.__all__) == list(mcdrop.__all__)
    for name in mcdrop.__all__:
        assert getattr(mcdrop, name) is not None
    assert set(mcdrop.__all__) <= set(dir(mcdrop))
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        mcdrop.guess  # noqa: B018


def test_version_heads_the_changelog() -> None:
    changelog = (PACKAGE.parent / "CHANGELOG.md").read_text()
    assert f"## [{mcdrop.__version__}]" in changelog
