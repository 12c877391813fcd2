"""Runs the python blocks of a page, each on its own; needs nothing but what the blocks import.

python tests/quality/blocks.py README.md
"""

from __future__ import annotations

import ast
import doctest
import re
import sys
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

__all__ = ["BLOCK", "FRAMEWORKS", "run_page"]

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Installed by `make frameworks`, which runs the blocks that import them.
FRAMEWORKS = {
    *("arviz", "botorch", "duckdb", "lightning", "monai", "peft", "polars", "skactiveml", "skorch"),
    *("accelerate", "torch_geometric", "torchmetrics"),
}
# What a name needs beside the package that it comes from.
_NEEDS = {"Trainer": "accelerate"}


def run_page(page: Path, *, may_lack: Collection[str] = ()) -> int:
    """Run the blocks of a page; return how many ran.

    Args:
        page: A Markdown file.
        may_lack: Packages; a block that imports one that is not installed is left out.

    Raises:
        AssertionError: If a session prints something else than the page says.
    """
    flags = doctest.NORMALIZE_WHITESPACE
    done = 0
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
        # A reader copies one block: it needs nothing of those before it.
        namespace: dict[str, object] = {"__name__": "page"}
        name = f"{page.name}, block {number}"
        if block.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block, namespace, name, str(page), 0)
            failures: list[str] = []
            doctest.DocTestRunner(optionflags=flags).run(test, out=failures.append)
            assert not failures, "".join(failures)
        elif any(find_spec(package) is None for package in _imported(block) & set(may_lack)):
            continue
        else:
            exec(compile(block, name, "exec"), namespace)  # noqa: S102
        done += 1
    return done


def _imported(block: str) -> set[str]:
    """Return the packages that a block imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
            names += [_NEEDS[alias.name] for alias in node.names if alias.name in _NEEDS]
    return {name.split(".")[0] for name in names}


if __name__ == "__main__":
    for given in sys.argv[1:]:
        print(f"{run_page(Path(given))} blocks of {given} run")  # noqa: T201
