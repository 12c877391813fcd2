"""Code in exported programs does not run; the sizes that torch writes are let through."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcdrop import UnsupportedError
from mcdrop._files.programs import read_program
from mcdrop._files.vetting import fault_of_program
from tests.fuzz.hostile import Change, Payload, rewritten, saved, within
from tests.fuzz.readers import KINDS

PROGRAM = next(kind for kind in KINDS if kind.name == "net.pt2")


@pytest.fixture
def harm(tmp_path: Path) -> Path:
    """The folder that only code from a file makes."""
    return tmp_path / "executed"


def as_is(name: str, data: bytes) -> bytes:
    return data


def as_pickles(config: str, path_name: str | None = None) -> Change:
    """Let a description of weights or constants ask for a pickle."""

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith(config):
            return data
        told = json.loads(data)
        entry = {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}
        told["config"] = told["config"] or {"c": entry}
        for each in told["config"].values():
            each["use_pickle"] = path_name is None
            each["path_name"] = path_name or each["path_name"]
        return json.dumps(told).encode()

    return change


PROGRAMS: dict[str, tuple[Callable[[Path], Change], Callable[[Path], dict[str, bytes]], str]] = {
    "example": (
        lambda harm: within("sample_inputs/model.pt", saved(((Payload(harm),), {}))),
        lambda harm: {},
        r"sample_inputs/model\.pt with the object \w+\.mkdir",
    ),
    "weights": (
        lambda harm: as_pickles("model_weights_config.json"),
        lambda harm: {},
        "weights_config.json with pickled objects",
    ),
    "constants": (
        lambda harm: as_pickles("constants_config.json", "opaque_obj_0"),
        lambda harm: {"data/constants/opaque_obj_0": pickle.dumps(Payload(harm))},
        "constants_config.json with objects in 'opaque_obj_0'",
    ),
    "legacy weights": (
        lambda harm: as_is,
        lambda harm: {"data/weights/model.pt": saved({"x": Payload(harm)})},
        r"weights/model\.pt with the object \w+\.mkdir",
    ),
    "legacy weights in capitals": (
        lambda harm: as_is,
        lambda harm: {"data/weights/MODEL.PT": saved({"x": Payload(harm)})},
        r"weights/MODEL\.PT with the object \w+\.mkdir",
    ),
    "state of torch 2.4": (
        lambda harm: as_is,
        lambda harm: {"serialized_state_dict.json": saved({"x": Payload(harm)})},
        r"serialized_state_dict\.json with the object \w+\.mkdir",
    ),
    "compiled library": (
        lambda harm: as_is,
        lambda harm: {"data/aotinductor/model/lib.so": b"\x7fELF"},
        r"lib\.so with native code",
    ),
    "size": (
        lambda harm: with_size(f"__import__('os').mkdir('{harm}')"),
        lambda harm: {},
        "with the code .* as a size",
    ),
    "structure of an enum": (
        lambda harm: with_structure({"__enum__": True, "fqn": "antigravity:x", "name": "y"}),
        lambda harm: {},
        r"with a module to import \(__enum__\)",
    ),
    "structure of a defaultdict": (
        lambda harm: with_structure([{"default_factory_module": "antigravity"}]),
        lambda harm: {},
        r"with a module to import \(default_factory_module\)",
    ),
}


def with_size(expression: str) -> Change:
    """Let a symbolic size be this text, which SymPy evaluates."""

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return data
        told = json.dumps(expression).encode()
        text, count = re.subn(rb'"expr_str": ?"[^"]*"', lambda _: b'"expr_str": ' + told, data)
        assert count
        return text

    return change


def with_structure(context: object) -> Change:
    """Let the structure of the inputs be built by importing a module."""

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return data
        inner = json.dumps([1, {"type": "x", "context": json.dumps(context), "children_spec": []}])
        place = rb'"in_spec": ?"(?:[^"\\]|\\.)*"'
        told = b'"in_spec": ' + json.dumps(inner).encode()
        text, count = re.subn(place, lambda _: told, data)
        assert count
        return text

    return change


@pytest.mark.parametrize("name", PROGRAMS)
def test_code_in_programs_does_not_run(name: str, tmp_path: Path, harm: Path) -> None:
    change, more, text = PROGRAMS[name]
    path = tmp_path / "net.pt2"
    PROGRAM.write(path)
    rewritten(path, change(harm), more=more(harm))
    with pytest.raises(UnsupportedError, match=rf"but got net\.pt2 \(net/.*{text}.*If you trust"):
        read_program(path)
    assert not harm.exists()


@pytest.mark.parametrize(
    "expression",
    [
        "exec('x')",
        "Symbol('s0').__class__",
        "Symbol('s0', positive=exec('1'))",
        "(lambda: 0)()",
        "[1 for _ in 'ab']",
        "9**9**9**9",
        "Pow(Integer(9), Mul(Integer(9), Integer(9)))",
        "LShift(Integer(1), Integer(9999999999))",
        "2**(8*8*8*8)",
        "1" * 400,
        "Integer('(1).__class__')",
        "getattr",
        "f'{1}'",
        "s0" + "+s0" * 2000,
        3,
    ],
)
def test_sizes_are_arithmetic_of_moderate_size(expression: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    PROGRAM.write(path)
    rewritten(path, with_size(expression))
    with pytest.raises(UnsupportedError, match=r"net\.pt2 .* as a size"):
        read_program(path)


@pytest.mark.parametrize(
    "expression",
    [
        "s77",
        "2*s77 + 1",
        "Symbol('s31', positive=True, integer=True)",
        "Add(Symbol('s31', positive=True, integer=True), Mul(Integer(-1), Integer(3)))",
        "FloorDiv(s0, 2)",
        "Pow(Symbol('s0', integer=True), Integer(2))",
        "Max(1, s0)",
        "s0**2 <= 4096",
    ],
)
def test_sizes_that_torch_writes_are_let_through(expression: str) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("net/models/model.json", json.dumps([{"expr_str": expression}]))
    path = _Stored(made.getvalue())
    assert fault_of_program(path) is None  # type: ignore[arg-type]


class _Stored(io.BytesIO):
    """Bytes that stand for a path."""

    def stat(self) -> Any:
        return os.stat_result((0,) * 6 + (len(self.getvalue()),) + (0,) * 3)


def test_weights_that_are_not_there_are_not_allocated(tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        if name.endswith("weights/weight_0"):
            return b""
        huge = b'"sizes": [{"as_int": 1000000000}, {"as_int": 1000000000}]'
        if name.endswith("weights_config.json"):
            return re.sub(rb'"sizes": \[[^]]*\]', lambda _: huge, data, count=1)
        return data

    path = tmp_path / "net.pt2"
    PROGRAM.write(path)
    rewritten(path, change)
    with pytest.raises(UnsupportedError, match="numbers in 'weight_0', which is empty"):
        read_program(path)
