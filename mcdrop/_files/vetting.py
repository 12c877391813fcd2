"""Exported programs are looked at before torch reads them, since reading one can run code.

`torch.export.load` unpickles weights, constants and examples that ask for it, evaluates the text of
symbolic sizes, imports modules that an output structure names, and loads compiled libraries. Only
programs of tensors in plain containers pass; a program with more has to be loaded by its owner.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcdrop._disk.archives import fault_of_names, fault_of_tensors

__all__ = ["fault_of_program"]

# What symbolic sizes are written with: classes of SymPy and torch.utils._sympy.functions.
# fmt: off
_FUNCTIONS = frozenset((
    "Abs", "Add", "And", "BooleanFalse", "BooleanTrue", "CeilDiv", "CeilToInt", "CleanDiv", "Eq",
    "Equality", "Float", "FloatPow", "FloatTrueDiv", "FloorDiv", "FloorToInt", "Ge",
    "GreaterThan", "Gt", "Half", "Identity", "IntTrueDiv", "Integer",
    "IsNonOverlappingAndDenseIndicator", "LShift", "Le", "LessThan", "Lt", "Max", "Min", "Mod",
    "ModularIndexing", "Mul", "Ne", "NegativeOne", "Not", "One", "Or", "Piecewise", "Pow",
    "PowByNatural", "PythonMod", "RShift", "Rational", "RoundDecimal", "RoundToInt",
    "StrictGreaterThan", "StrictLessThan", "Symbol", "ToFloat", "TruncToFloat", "TruncToInt",
    "Tuple", "Unequality", "Where", "Zero", "ceiling", "floor",
))
# fmt: on
# These compute at once what may be astronomically large.
_GROWING = frozenset(("FloatPow", "LShift", "Pow", "PowByNatural"))
_EXPRESSION = (
    ast.Expression,
    ast.Load,
    ast.Name,
    ast.Constant,
    ast.Call,
    ast.keyword,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
)
_LENGTH = 4096
_LARGEST_POWER = 64
_MOST_POWERS = 3
_WORD = re.compile(r"[\w.+-]{1,40}")
# Files of raw numbers; other names ask for objects.
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
# Of structures of outputs that import a module to build what they hold.
_IMPORTING = ("default_factory_module", "__enum__")


def fault_of_program(path: Path) -> str | None:
    """Return what of an exported program would run code or allocate beyond its size.

    Args:
        path: A .pt2 file.

    Returns:
        It, in a few words; None if there is nothing of the kind.

    Raises:
        ValueError: If a part is damaged.
        RecursionError: If a part is nested without end.
        zipfile.BadZipFile: If it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            return "compressed members"
        if sum(info.file_size for info in infos) > path.stat().st_size:
            return "overlapping members"
        if fault := fault_of_names(archive):
            return fault
        empty = {info.filename.split("/")[-1] for info in infos if not info.file_size}
        for info in infos:
            if fault := _fault_of_member(archive, info, empty):
                return f"{info.filename} with {fault}"
    return None


def _fault_of_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, empty: set[str]
) -> str | None:
    # torch finds members without regard to case.
    name = info.filename.casefold()
    if "aotinductor/" in name:
        return "native code"
    # Up to torch 2.7 all but the program is pickled, also under names that end in json.
    is_pickle = "serialized_" in name and not name.endswith("serialized_exported_program.json")
    if "models/" in name or (name.endswith(".json") and not is_pickle):
        return next(_faults_of_json(json.loads(archive.read(info)), empty), None)
    if (name.endswith(".pt") or is_pickle) and info.file_size:
        return fault_of_tensors(io.BytesIO(archive.read(info)))
    return None


def _faults_of_json(value: Any, empty: set[str]) -> Iterator[str]:
    """Yield what is wrong in a value of JSON, and in JSON that its strings hold."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return
    if isinstance(value, list):
        for item in value:
            yield from _faults_of_json(item, empty)
    elif isinstance(value, dict):
        yield from _faults_of_entry(value, empty)
        for item in value.values():
            yield from _faults_of_json(item, empty)


def _faults_of_entry(entry: dict[str, Any], empty: set[str]) -> Iterator[str]:
    for name in _IMPORTING:
        if name in entry:
            yield f"a module to import ({name})"
    if entry.get("use_pickle"):
        yield "pickled objects"
    if "path_name" in entry:
        name = str(entry["path_name"])
        if not _PAYLOAD.fullmatch(name):
            yield f"objects in {name!r}"
        elif name in empty and _count(entry.get("tensor_meta")):
            yield f"numbers in {name!r}, which is empty"
    if "expr_str" in entry and not _is_plain(entry["expr_str"]):
        yield f"the code {str(entry['expr_str'])[:60]!r} as a size"


def _count(meta: Any) -> int:
    """Return how many numbers a tensor has by its description."""
    sizes = meta.get("sizes", ()) if isinstance(meta, dict) else ()
    return math.prod(size.get("as_int", 1) for size in sizes)


def _is_plain(text: object) -> bool:
    """Whether a symbolic size is arithmetic of symbols and numbers, and of moderate size."""
    if not isinstance(text, str) or len(text) > _LENGTH:
        return False
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, MemoryError, RecursionError):
        return False
    powers = [node for node in nodes if _exponent(node) is not None]
    return (
        all(isinstance(node, _EXPRESSION) and _is_plain_node(node) for node in nodes)
        and len(powers) <= _MOST_POWERS
        and all(_is_moderate(_exponent(node)) for node in powers)
    )


def _is_plain_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or re.fullmatch(r"[a-z]\w*\d+|oo|int_oo", node.id) is not None
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _WORD.fullmatch(node.value) is not None
        return isinstance(node.value, bool | int | float) and abs(node.value) < 2**64
    return True


def _exponent(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):
        return node.right
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _GROWING:
        return node.args[-1] if node.args else node
    return None


def _is_moderate(exponent: ast.AST | None) -> bool:
    """Whether an exponent holds at most one number, and that a small one."""
    nodes = ast.walk(exponent) if exponent is not None else iter(())
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    numbers = [value for value in values if not (isinstance(value, str) and value[:1].isalpha())]
    return len(numbers) <= 1 and all(
        isinstance(value, bool | int | float) and abs(value) <= _LARGEST_POWER for value in numbers
    )
