"""Prose of docstrings as reStructuredText."""

from __future__ import annotations

import re

__all__ = ["escape_docstring", "escaped"]

# Outside code, these are plain characters in a docstring and markup in reStructuredText.
_MARKUP = re.compile(r"[|*]|_(?=\W|$)")
_CODE = re.compile(r"``.+?``|`[^`]+`_?|:\w+:(?=`)")


def escaped(line: str) -> str:
    """Return a line of prose in which everything but code reads in RST as it stands there."""
    parts, end = [], 0
    for code in _CODE.finditer(line):
        parts += [_MARKUP.sub(r"\\\g<0>", line[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*parts, _MARKUP.sub(r"\\\g<0>", line[end:])])


def escape_docstring(lines: list[str]) -> None:
    """Escape the prose of a docstring in place; examples stay as they are."""
    example = False
    for number, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            lines[number] = escaped(line)
