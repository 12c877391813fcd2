"""Runs the python blocks of a page, each on its own; needs nothing but the package.

python tests/quality/blocks.py README.md
"""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path

__all__ = ["BLOCK", "run_page"]

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_page(page: Path) -> int:
    """Run every block of a page; return how many there are.

    Raises:
        AssertionError: If a session prints something else than the page says.
    """
    flags = doctest.NORMALIZE_WHITESPACE
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    for number, block in enumerate(blocks, 1):
        # A reader copies one block: it needs nothing of those before it.
        namespace: dict[str, object] = {"__name__": "page"}
        name = f"{page.name}, block {number}"
        if block.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block, namespace, name, str(page), 0)
            failures: list[str] = []
            doctest.DocTestRunner(optionflags=flags).run(test, out=failures.append)
            assert not failures, "".join(failures)
        else:
            exec(compile(block, name, "exec"), namespace)  # noqa: S102
    return len(blocks)


if __name__ == "__main__":
    for given in sys.argv[1:]:
        print(f"{run_page(Path(given))} blocks of {given} run")  # noqa: T201
