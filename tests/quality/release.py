"""Everything that has to agree before a version is tagged; run by `make release-check`.

python -m tests.quality.release dist .venv-release-clean/bin/python
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import date
from pathlib import Path

__all__ = ["faults_of_archives", "faults_of_versions", "version_of"]

ROOT = Path(__file__).parents[2]


def version_of(text: str) -> str:
    """Return the version that a module states."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise ValueError("no __version__")


def faults_of_versions(root: Path = ROOT) -> list[str]:
    """Return where another version is told than that of the package, or no news of it."""
    version = version_of((root / "mcdrop" / "__init__.py").read_text())
    changelog = (root / "CHANGELOG.md").read_text()
    head = re.findall(r"^## \[([^]]+)\](?: - (\S+))?$", changelog, flags=re.MULTILINE)
    faults = []
    if head[0][0] != version:
        faults.append(f"CHANGELOG.md begins with {head[0][0]}, not {version}")
    for name, day in head:
        try:
            date.fromisoformat(day)
        except ValueError:
            faults.append(f"CHANGELOG.md has no date for {name}")
    news = changelog.split("\n## [")[1]
    if len(news.split()) < 50:
        faults.append(f"CHANGELOG.md says hardly anything of {version}")
    citation = (root / "CITATION.cff").read_text()
    for line in (f"version: {version}", f"date-released: {head[0][1]}"):
        if line not in citation.splitlines():
            faults.append(f"CITATION.cff does not say `{line}`")
    return faults


def faults_of_archives(folder: Path, version: str) -> list[str]:
    """Return what is missing in the wheel and the sdist, or should not be there."""
    wheel, sdist = (
        folder / f"mcdrop-{version}-py3-none-any.whl",
        folder / f"mcdrop-{version}.tar.gz",
    )
    if sorted(folder.iterdir()) != sorted([wheel, sdist]):
        return [f"{folder.name} holds {sorted(path.name for path in folder.iterdir())}"]
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mcdrop").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    faults = [f"the wheel lacks {name}" for name in sorted(package - packed)]
    faults += [f"the sdist lacks {name}" for name in sorted(package - sources)]
    others = {name for name in packed if not name.startswith(("mcdrop/", f"mcdrop-{version}."))}
    faults += [f"the wheel holds {name}" for name in sorted(others)]
    if f"mcdrop-{version}.dist-info/licenses/LICENSE" not in packed:
        faults.append("the wheel lacks its license")
    return faults


def main() -> None:
    """Check versions and archives; then README and command line with the wheel alone installed."""
    folder, python = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).absolute()
    version = version_of((ROOT / "mcdrop" / "__init__.py").read_text())
    faults = faults_of_versions() + faults_of_archives(folder, version)
    if faults:
        raise SystemExit("\n".join(faults))
    where = (
        "import mcdrop, pathlib; print(mcdrop.__version__, pathlib.Path(mcdrop.__file__).parent)"
    )
    with tempfile.TemporaryDirectory() as empty:

        def run(*command: object) -> str:
            done = subprocess.run(
                list(map(str, command)), cwd=empty, stdout=subprocess.PIPE, text=True, check=True
            )
            print(done.stdout, end="")  # noqa: T201
            return done.stdout

        installed, place = run(python, "-c", where).split()
        assert installed == version
        assert "site-packages" in place
        assert run(python.with_name("mcdrop"), "--version").split()[-1] == version
        run(python, ROOT / "tests" / "quality" / "blocks.py", ROOT / "README.md")
        run(python.with_name("mcdrop"), "report", "--html", "page.html")
        assert (Path(empty) / "page.html").stat().st_size > 10_000
    print(f"mcdrop {version} is ready to be tagged")  # noqa: T201


if __name__ == "__main__":
    main()
