"""The page of dependencies lists what is asked for, with the licenses that the packages state."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| ([\w-]+) \| (?:`(\w+)`)? ?\| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs" / "dependencies.md").read_text())
# Licenses that ask for no more than their notice; none of them says how other code is licensed.
PERMISSIVE = ("BSD", "MIT", "Apache", "PSF", "Python Software Foundation", "Zlib", "ISC")

_LICENSE = ("License-Expression", "License")


def asked_for() -> list[tuple[str, str]]:
    """Return the packages of pyproject.toml with their extra, without those for development."""
    text = (ROOT / "pyproject.toml").read_text()
    needed = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert needed
    found = [(name, "") for name in re.findall(r'"([\w-]+)', needed[1])]
    extras = text.split("[project.optional-dependencies]")[1].split("test = [")[0]
    for extra, names in re.findall(r"^(\w+) = \[(.*)\]$", extras, re.MULTILINE):
        found += [(name, extra) for name in re.findall(r'"(?!mcdrop)([\w-]+)', names)]
    return found


def test_the_page_lists_what_is_asked_for() -> None:
    assert sorted((name, extra) for name, extra, _ in ROWS) == sorted(asked_for())


@pytest.mark.parametrize(("name", "license_"), [(name, told) for name, _, told in ROWS])
def test_licenses_are_permissive_and_those_of_the_page(name: str, license_: str) -> None:
    assert license_.startswith(PERMISSIVE)
    try:
        stated = metadata(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    classifiers = [text for text in stated.get_all("Classifier") or [] if "License ::" in text]
    # Some give the whole text, with the licenses of bundled libraries, in place of a name.
    named = [stated[key].partition("\n")[0] for key in _LICENSE if key in stated]
    text = " ".join([*named, *classifiers])
    assert re.search(r"\b(A|L)?GPL", text) is None
    assert license_.split("-", maxsplit=1)[0].split(maxsplit=1)[0] in text
