"""Files that are cut, damaged or of another kind: an error that names the file, nothing else."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mcdrop.errors import McdropError
from tests.fuzz.damage import cuts, damaged, mixtures
from tests.fuzz.readers import KINDS, Kind

_EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
# Damages per kind of file in the default suite, where a reader is fast and where it is slow.
_FEW, _FEWER = 40, 10
_MANY, _LESS = 500, 400


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """torch logs what it could not read before it raises."""
    caplog.set_level(logging.CRITICAL, logger="torch")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One good file of each kind, which its readers take."""
    files = {}
    for kind in KINDS:
        path = kind.place(tmp_path_factory.mktemp("good"))
        kind.write(path)
        files[kind.name] = path.read_bytes()
        taken = [_outcome(read, path) for read in kind.readers]
        assert "read" in taken, (kind.name, taken)
    return files


def _outcome(read: Callable[[Path], object], path: Path) -> str:
    """Read a file; return what came of it, or how it failed in another way than by an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except McdropError as error:
        text = str(error)
        return "refused" if path.name in text or path.parent.name in text else f"nameless: {text}"
    except Exception as error:  # noqa: BLE001, RUF100  # whatever else it raises is a finding
        return f"{type(error).__name__}: {error}"
    return "read"


def check(kind: Kind, folder: Path, contents: Iterable[tuple[object, bytes]]) -> Counter[str]:
    """Let all readers of a kind read each content; fail at the first that is not refused well."""
    outcomes = Counter[str]()
    path = kind.place(folder)
    for label, content in contents:
        path.write_bytes(content)
        for number, read in enumerate(kind.readers):
            found = _outcome(read, path)
            outcomes[found] += 1
            if found not in {"read", "refused"}:
                pytest.fail(f"{kind.name}, {label}, reader {number}: {found}", pytrace=False)
    return outcomes


@_EACH_KIND
def test_files_cut_at_every_boundary(kind: Kind, good: dict[str, bytes], tmp_path: Path) -> None:
    data = good[kind.name]
    lengths = cuts(data)
    chosen = lengths[:: len(lengths) // (_FEWER if kind.slow else _FEW) + 1]
    outcomes = check(kind, tmp_path, ((f"{length} bytes", data[:length]) for length in chosen))
    assert outcomes["refused"] > 0


@_EACH_KIND
def test_files_with_faults(kind: Kind, good: dict[str, bytes], tmp_path: Path) -> None:
    seeds = range(_FEWER if kind.slow else _FEW)
    check(kind, tmp_path, ((f"seed {seed}", damaged(good[kind.name], seed)) for seed in seeds))


@pytest.mark.slow
@_EACH_KIND
def test_files_with_many_faults(kind: Kind, good: dict[str, bytes], tmp_path: Path) -> None:
    data = good[kind.name]
    every = range(len(data)) if kind.slow is False and len(data) < 1000 else cuts(data)
    outcomes = check(kind, tmp_path, ((f"{length} bytes", data[:length]) for length in every))
    seeds = range(1000, 1000 + (_LESS if kind.slow else _MANY))
    outcomes += check(kind, tmp_path, ((f"seed {seed}", damaged(data, seed)) for seed in seeds))
    assert outcomes["refused"] > outcomes["read"] // 10


def test_files_under_the_suffix_of_another_kind(good: dict[str, bytes], tmp_path: Path) -> None:
    kinds = {kind.name: kind for kind in KINDS}
    for name, other, data in mixtures(good):
        if not kinds[name].slow or other == "regression.pt":
            check(kinds[name], tmp_path, [(f"holding {other}", data)])
