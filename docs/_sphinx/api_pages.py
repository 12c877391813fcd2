"""The API reference: one page for each public module, from its `__all__` and its docstrings."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import ModuleType

from prose import escaped

import mcdrop

__all__ = ["api_pages", "documented_names", "links", "public_modules", "public_names"]

# What predictions hold is meant by its name before a function of a submodule is.
_OWNERS = (mcdrop.RegressionPrediction, mcdrop.ClassificationPrediction)


def public_modules() -> list[str]:
    """Return the public modules, the package itself first."""
    inside = [name for name in mcdrop.__all__ if inspect.ismodule(getattr(mcdrop, name))]
    return ["mcdrop", *(f"mcdrop.{name}" for name in inside)]


def public_names(module: str) -> dict[str, object]:
    """Return the public objects of a module by name, without its modules."""
    home = import_module(module)
    found = {name: getattr(home, name) for name in home.__all__}
    return {name: value for name, value in found.items() if not inspect.ismodule(value)}


def _homes() -> dict[int, str]:
    """Return under which name each public object is described: the first of its public names."""
    homes: dict[int, str] = {}
    for module in public_modules():
        for name, value in public_names(module).items():
            homes.setdefault(id(value), f"{module}.{name}")
    return homes


def documented_names() -> list[str]:
    """Return the full names that have a description."""
    return sorted(_homes().values())


def links() -> dict[str, str]:
    """Return what a name in a text leads to: short and full names, none that may be a field."""
    homes = _homes()
    fields = {name for owner in _OWNERS for name in (*dir(owner), *owner.__annotations__)}
    found: dict[str, str] = {}
    for module in public_modules():
        for name, value in public_names(module).items():
            found[f"{module}.{name}"] = homes[id(value)]
            if module == "mcdrop" or name not in fields:
                found.setdefault(name, homes[id(value)])
    return found


def api_pages() -> dict[str, str]:
    """Return the pages by name. An object with two public names is described under the first."""
    homes = _homes()
    pages = {module: _page(module, homes) for module in public_modules()}
    return {**pages, "index": _index()}


def _index() -> str:
    """Return the first page of the reference: every module in one line."""
    modules = public_modules()
    table = [
        (f":doc:`{module} <{module}>`", _first_line(import_module(module))) for module in modules
    ]
    entries = [f"   {module} <{module}>" for module in modules]
    tree = ["", ".. toctree::", "   :hidden:", "", *entries, ""]
    return "\n".join([*_title("API reference"), *_table(table), *tree])


def _page(module: str, homes: dict[int, str]) -> str:
    """Return the page of one module: its first line, a table of its names, then each in full."""
    home = import_module(module)
    names = public_names(module)
    lines = [*_title(module), _first_line(home), ""]
    rows = [
        (f":py:obj:`{name} <{homes[id(value)]}>`", _first_line(value))
        for name, value in names.items()
    ]
    lines += [*_table(rows), ""]
    for name, value in names.items():
        if homes[id(value)] == f"{module}.{name}":
            lines += [*_entry(f"{module}.{name}", value), ""]
    return "\n".join(lines)


def _entry(path: str, value: object) -> list[str]:
    """Return the directive that describes one object."""
    if not inspect.isclass(value):
        return [f".. autofunction:: {path}"]
    members = _own_members(value)
    return [f".. autoclass:: {path}", *([f"   :members: {', '.join(members)}"] if members else [])]


def _own_members(cls: type) -> list[str]:
    """Return the public methods and properties that this package defines for a class."""
    members: dict[str, None] = {}
    # Errors are alike: what they share is described at the first of them.
    for base in (cls,) if issubclass(cls, Exception) else reversed(cls.__mro__):
        if base.__module__.startswith("mcdrop"):
            for name, value in vars(base).items():
                described = inspect.getdoc(getattr(cls, name, None)) if callable(value) else ""
                if isinstance(value, property | classmethod | staticmethod):
                    described = inspect.getdoc(getattr(base, name, value)) or "described"
                if not name.startswith("_") and described:
                    members[name] = None
    return list(members)


def _title(text: str) -> list[str]:
    return [text, "=" * len(text), ""]


def _table(rows: list[tuple[str, str]]) -> list[str]:
    """Return a table of two columns."""
    lines = [".. list-table::", "   :class: names", "   :widths: 30 70", ""]
    for name, text in rows:
        lines += [f"   * - {name}", f"     - {text}"]
    return lines


def _first_line(value: object) -> str:
    """Return the first line of a docstring, as RST."""
    end = "\n" if isinstance(value, ModuleType) else "\n\n"
    return escaped(" ".join((inspect.getdoc(value) or "").split(end)[0].split()))
