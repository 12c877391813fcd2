"""A Sphinx extension: pages made from the source before each build, and docstrings as RST."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from api_pages import api_pages, links
from docutils import nodes
from error_texts import error_page
from prose import escape_docstring
from sphinx import addnodes

__all__ = ["setup", "write_pages"]

_MAY_BE_MISSING = ("gallery",)
_MOST_FIELDS = 8


def write_pages(folder: Path) -> None:
    """Write the API reference and the list of errors, where their text has changed."""
    pages = {f"api/{name}.rst": text for name, text in api_pages().items()}
    pages["every-error.md"] = error_page()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _on_docstring(
    app: Any, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    if isinstance(obj, type) and "Attributes:" not in lines:
        lines += _inherited_attributes(obj)
    escape_docstring(lines)


def _inherited_attributes(cls: type) -> list[str]:
    """Return the attributes that a class of the package describes for those made from it."""
    for base in cls.__mro__[1:]:
        _, title, text = (inspect.getdoc(base) or "").partition("\nAttributes:\n")
        if title and base.__module__.startswith("mcdrop"):
            return ["", "Attributes:", *text.split("\n\n")[0].split("\n"), ""]
    return []


def _on_signature(
    app: Any, what: str, name: str, obj: object, options: object, text: str, returned: str
) -> tuple[str, str] | None:
    """Leave out the arguments of results that nobody builds by hand; they are the attributes."""
    if isinstance(obj, type) and dataclasses.is_dataclass(obj):
        return ("", "") if len(dataclasses.fields(obj)) > _MOST_FIELDS else None
    return None


def _on_source(app: Any, name: str, source: list[str]) -> None:
    """Leave pages that are not there out of the contents."""
    if name == "index":
        lines = source[0].split("\n")
        gone = {page for page in _MAY_BE_MISSING if not (Path(app.srcdir) / f"{page}.md").exists()}
        source[0] = "\n".join(line for line in lines if line not in gone)


def _on_read(app: Any, document: nodes.document) -> None:
    """Make names in code links to their description, on the pages written by hand."""
    if app.env.docname.startswith("_generated"):
        return
    page = Path(app.srcdir, app.env.docname).parent
    for folder in list(document.findall(addnodes.pending_xref)):
        # A folder of the repository is a link where the page is read there; a site has none.
        if folder.get("reftype") == "myst" and (page / str(folder["reftarget"])).is_dir():
            folder.replace_self(folder.children)
    targets = links()
    for literal in list(document.findall(nodes.literal)):
        target = targets.get(literal.astext().removesuffix("()"))
        inside = (nodes.reference, nodes.title, addnodes.pending_xref)
        if target is None or isinstance(literal.parent, inside):
            continue
        link = addnodes.pending_xref(
            "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True
        )
        literal.replace_self(link)
        link += literal


def setup(app: Any) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "_generated"))
    app.connect("autodoc-process-signature", _on_signature)
    app.connect("source-read", _on_source)
    app.connect("doctree-read", _on_read)
    # Before napoleon, which adds markup of its own.
    app.connect("autodoc-process-docstring", _on_docstring, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
