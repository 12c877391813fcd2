"""Every text that an error can have, read from the calls of `McdropError.of` in the source.

A text has parts that are known before the call and parts that are not: `…` stands for the latter.
Helpers that pass a condition on are followed to their callers.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby, product, zip_longest
from pathlib import Path
from typing import TypeAlias

import mcdrop

__all__ = ["ErrorText", "calls_of", "error_page", "error_texts"]

PACKAGE = Path(mcdrop.__file__).parent
GAP = "…"
# A condition that is put together from more pieces than this is shown with gaps instead.
MOST = 12
DEEPEST = 3
_CONSTANT = re.compile(r"_?[A-Z]")

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module
# What the parameters of a function are in one call of it: the argument and where it stands.
_Given: TypeAlias = Mapping[str, tuple[ast.expr, "_Scope"]]


@dataclass(frozen=True)
class ErrorText:
    """One text: the class of the error, its parts, and the file that raises it."""

    error: str
    argument: str
    condition: str
    value: str
    remedy: str
    file: str

    @property
    def heading(self) -> str:
        """What to look for: the text from the argument to the value."""
        return f"expected `{self.argument}` to {self.condition}, but got {self.value}"

    @property
    def pattern(self) -> re.Pattern[str]:
        """What every such text matches."""
        text = f"{self.heading}. {self.remedy}."
        return re.compile(".*?".join(map(re.escape, text.split(GAP))), re.DOTALL)


@dataclass(frozen=True, eq=False)
class _Scope:
    """A function of a file, with what its parameters are in the call that is followed."""

    function: _Function
    module: _File
    given: _Given
    depth: int = 0


@dataclass(frozen=True, eq=False)
class _File:
    """A source file: its functions, and what it imports from which file."""

    name: str
    tree: ast.Module
    calls: tuple[tuple[_Function, ast.Call], ...]
    imports: Mapping[str, str]


@cache
def _files() -> tuple[_File, ...]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = {
            alias.name: f"{node.module.replace('.', '/')}.py"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        name = path.relative_to(PACKAGE.parent).as_posix()
        found.append(_File(name, tree, tuple(_calls(tree, tree)), imports))
    return tuple(found)


def _calls(node: ast.AST, function: _Function) -> Iterator[tuple[_Function, ast.Call]]:
    """Yield every call with the innermost function around it."""
    for child in ast.iter_child_nodes(node):
        inner = child if isinstance(child, ast.FunctionDef) else function
        if isinstance(child, ast.Call):
            yield inner, child
        yield from _calls(child, inner)


def calls_of() -> Iterator[tuple[_File, _Function, ast.Call]]:
    """Yield every call `SomeError.of(...)` with its file and function."""
    for file in _files():
        for function, call in file.calls:
            method = ast.unparse(call.func)
            if method.endswith("Error.of") and len(call.args) == 5:
                yield file, function, call


@cache
def error_texts() -> tuple[ErrorText, ...]:
    """Return every text, sorted, none twice."""
    found: dict[tuple[str, ...], ErrorText] = {}
    for file, function, call in calls_of():
        error = _public(ast.unparse(call.func).removesuffix(".of"))
        _, argument, *rest = call.args
        here = _Scope(function, file, {})
        for scope in _situations(here, rest):
            condition, value, remedy = (_bounded(part, scope) for part in rest)
            # Several values are many more headings for little: one gap stands for them.
            got = value[0] if len(value) == 1 else GAP
            for each in product(_bounded(argument, here), condition, remedy):
                text = ErrorText(error, each[0], each[1], got, each[2], file.name)
                found.setdefault((error, text.heading, text.remedy), text)
    return tuple(sorted(found.values(), key=lambda text: (text.error, text.heading, text.remedy)))


def _public(error: str) -> str:
    """Return the public class of an error that a private one is made from."""
    if error in mcdrop.errors.__all__:
        return error
    for file in _files():
        for node in ast.walk(file.tree):
            if isinstance(node, ast.ClassDef) and node.name == error:
                return _public(ast.unparse(node.bases[0]))
    return error


def _bounded(node: ast.expr, scope: _Scope) -> list[str]:
    """Return what an argument may read, or one text with gaps if there are too many."""
    options = list(dict.fromkeys(_texts(node, scope)))
    return options if 0 < len(options) <= MOST else [GAP]


def _situations(scope: _Scope, parts: Sequence[ast.expr]) -> list[_Scope]:
    """Return the scope once per call of its function, if parts of a text are its parameters."""
    function = scope.function
    if isinstance(function, ast.Module) or scope.depth >= DEEPEST:
        return [scope]
    wanted = _parameters(function)
    names = {name for part in parts for name in _names(part, function)}
    if not names.intersection(wanted):
        return [scope]
    found: list[_Scope] = []
    for file, caller, call in _callers(scope.module, function):
        given = dict(zip(wanted, call.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        used = {name: value for name, value in given.items() if name in names}
        outer = _Scope(caller, file, {}, scope.depth + 1)
        for each in _situations(outer, list(used.values())):
            places = {name: (value, each) for name, value in used.items()}
            found.append(_Scope(function, scope.module, places, scope.depth))
    return found or [scope]


def _callers(
    home: _File, function: ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[tuple[_File, _Function, ast.Call]]:
    """Yield the calls of a function in its own file and in those that import it."""
    for file, caller, call in _calls_by_name().get(function.name, ()):
        here = file is home or file.imports.get(function.name) == home.name
        if here and caller is not function:
            yield file, caller, call


@cache
def _calls_by_name() -> dict[str, list[tuple[_File, _Function, ast.Call]]]:
    found: dict[str, list[tuple[_File, _Function, ast.Call]]] = {}
    for file in _files():
        for caller, call in file.calls:
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            found.setdefault(name, []).append((file, caller, call))
    return found


def _names(node: ast.expr, function: _Function) -> set[str]:
    """Return the variables that an expression is made from, assignments followed."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    for target, value in _assigned(function):
        if target in names:
            names |= {each.id for each in ast.walk(value) if isinstance(each, ast.Name)}
    return names


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    keywords = [each.arg for each in function.args.kwonlyargs]
    return [*(names[1:] if names[:1] in (["self"], ["cls"]) else names), *keywords]


def _texts(node: ast.expr, scope: _Scope) -> list[str]:
    """Return what an expression may read, gaps included."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        pieces = [_texts(value, scope) for value in node.values]
        return ["".join(each) for each in product(*pieces)] if _few(pieces) else [_gaps(node)]
    if isinstance(node, ast.FormattedValue):
        return _texts(node.value, scope)
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, scope), *_texts(node.orelse, scope)]
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        return [text for value in node.values for text in _texts(value, scope)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        pieces = [_texts(node.left, scope), _texts(node.right, scope)]
        return ["".join(each) for each in product(*pieces)] if _few(pieces) else [GAP]
    if isinstance(node, ast.Name):
        return _named(node.id, scope)
    return [GAP]


def _few(pieces: list[list[str]]) -> bool:
    count = 1
    for piece in pieces:
        count *= len(piece)
    return count <= MOST


def _gaps(node: ast.JoinedStr) -> str:
    known = (v.value if isinstance(v, ast.Constant) else GAP for v in node.values)
    return "".join(map(str, known))


def _named(name: str, scope: _Scope) -> list[str]:
    """Return what a variable may read: an argument, or what the function or file assigns to it."""
    if name in scope.given:
        return _texts(*scope.given[name])
    function = scope.function
    if not isinstance(function, ast.Module) and name in _parameters(function):
        default = _defaults(function).get(name)
        return [GAP] if default is None else _texts(default, scope)
    # Constants of the file are upper case; another name may be bound by a loop.
    homes = (function, scope.module.tree) if _CONSTANT.match(name) else (function,)
    for home in homes:
        found = [value for target, value in _assigned(home) if target == name]
        if found:
            return [text for value in found for text in _texts(value, scope)]
    return [GAP]


def _defaults(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, ast.expr]:
    """Return the default texts of parameters."""
    places = [*function.args.posonlyargs, *function.args.args]
    pairs = [
        *zip(reversed(places), reversed(function.args.defaults), strict=False),
        *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
    ]
    return {
        each.arg: value
        for each, value in pairs
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


@cache
def _assigned(home: _Function) -> tuple[tuple[str, ast.expr], ...]:
    """Return what is assigned to which name, pairs of tuples taken apart."""
    found: list[tuple[str, ast.expr]] = []
    for node in home.body if isinstance(home, ast.Module) else ast.walk(home):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                found += _pairs(target, node.value)
    return tuple(found)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        # A text that refers to itself would never end.
        if not any(isinstance(n, ast.Name) and n.id == target.id for n in ast.walk(value)):
            yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, other in zip(target.elts, value.elts, strict=False):
            yield from _pairs(one, other)


def error_page() -> str:
    """Return the page that lists every text under the class of its error."""
    lines = [
        "---",
        "hide-toc: true",
        "---",
        "",
        "# Every error text",
        "",
        f"Made from the source when the site is built. `{GAP}` stands for what depends on the",
        "call, and the function that was called comes before each text. The search box finds them",
        "too. [Errors](../errors.md) explains the frequent ones.",
    ]
    for error, texts in groupby(error_texts(), key=lambda text: text.error):
        lines += ["", f"## {error}"]
        for heading, same in groupby(texts, key=lambda text: text.heading):
            each = list(same)
            files = ", ".join(dict.fromkeys(f"`{text.file}`" for text in each))
            lines += ["", f"### {_plain(heading)}", ""]
            lines += [f"- {_plain(text.remedy)}." for text in each if text.remedy.strip(GAP)]
            lines += ["", f"Raised in {files}."]
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """Escape what Markdown would take for markup, outside code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return re.sub(r"([\\`*_{}\[\]<>|$#])", r"\\\1", text)
    escaped = [re.sub(r"([\\*_{}\[\]<>|$#])", r"\\\1", part) for part in parts[::2]]
    code = [f"`{part}`" for part in parts[1::2]]
    return "".join(piece for pair in zip_longest(escaped, code, fillvalue="") for piece in pair)
