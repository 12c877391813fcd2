"""Notebooks made from pages of the documentation, run, with what they print.

python docs/_sphinx/notebooks.py          writes examples/notebooks
python docs/_sphinx/notebooks.py --check  runs them and writes nothing
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "PAGES", "notebook_of"]

DOCS = Path(__file__).resolve().parent.parent
FOLDER = DOCS.parent / "examples" / "notebooks"
PAGES = ("start", "everyday", "concepts", "report", "recalibration")

_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()(?!https?:|#)")
# More than a screen of output says nothing more.
_MOST_LINES = 30
_FIRST = (
    "import torch\n\n_ = torch.manual_seed(0)  # the same numbers each time this notebook is run"
)


def notebook_of(page: str) -> dict[str, Any]:
    """Return the notebook of a page: text and blocks as cells, nothing run.

    Args:
        page: Name of a page in docs/, without its suffix.
    """
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    cells, end = [_cell("code", _FIRST)], 0
    for block in _BLOCK.finditer(text):
        cells += [_cell("markdown", _LINK.sub(r"\1../../docs/", text[end : block.start()]))]
        cells += [_cell("code", block.group(1))]
        end = block.end()
    cells += [_cell("markdown", _LINK.sub(r"\1../../docs/", text[end:]))]
    # The title comes first, then the seed.
    filled = [cell for cell in (cells[1], cells[0], *cells[2:]) if cell["source"]]
    for number, cell in enumerate(filled):
        cell["id"] = f"{page}-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": filled, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(kind: str, text: str) -> dict[str, Any]:
    """Return a cell of nbformat 4.5."""
    cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": text.strip()}
    return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run a notebook in an empty folder and return it with its outputs, cut to a screen each."""
    import nbformat
    from nbclient import NotebookClient

    node = nbformat.from_dict(notebook)
    with tempfile.TemporaryDirectory() as folder:
        options = {"extra_arguments": ["--IPKernelApp.log_level=40"], "timeout": 300}
        NotebookClient(node, resources={"metadata": {"path": folder}}, **options).execute()
    for cell in node.cells:
        cell.metadata = {}
        # Progress bars and warnings tell of the machine, not of the page.
        if "outputs" in cell:
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            lines = str(output.get("text", "")).splitlines(keepends=True)
            if len(lines) > _MOST_LINES:
                output["text"] = "".join([*lines[:_MOST_LINES], "...\n"])
    node.metadata["language_info"] = {"name": "python"}
    return dict(json.loads(nbformat.writes(node)))


def main() -> None:
    """Write and run the notebooks, or run them alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="Write nothing.")
    parser.add_argument("pages", nargs="*", metavar="page", help="One of them; all by default.")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for page in options.pages or PAGES:
        notebook = executed(notebook_of(page))
        if not options.check:
            text = json.dumps(notebook, indent=1, ensure_ascii=False)
            (FOLDER / f"{page}.ipynb").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(f"{page}.ipynb runs\n")


if __name__ == "__main__":
    main()
