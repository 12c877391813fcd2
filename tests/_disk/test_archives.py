"""What an archive may hold: no code, no two members of one name, no more than it shows."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mcdrop._disk.archives import fault_of_names, fault_of_size, fault_of_tensors


def saved(value: object) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file)
    return file


@pytest.mark.parametrize(
    "value",
    [
        torch.eye(2),
        {"a": [torch.eye(2, dtype=dtype) for dtype in (torch.bool, torch.bfloat16, torch.int8)]},
        nn.Linear(2, 1).state_dict(),
        (nn.Parameter(torch.eye(2)), {"b": None, "c": 1.5, "d": "text", "e": torch.Size((1, 2))}),
        torch.eye(2, dtype=torch.complex64),
        torch.zeros(2, 2).to(torch.float8_e4m3fn),
        torch.uint16,
    ],
)
def test_tensors_in_plain_containers_pass(value: object) -> None:
    assert fault_of_tensors(saved(value)) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (nn.Linear(2, 1), "the object torch.nn.modules.linear.Linear"),
        (np.float64(3), "the object numpy"),
        (bytearray(3), "the object"),
        (eval, "the object __builtin__.eval"),
    ],
)
def test_other_objects_are_named(value: object, found: str) -> None:
    assert str(fault_of_tensors(saved(value))).startswith(found)


@pytest.mark.parametrize(
    ("pickled", "found"),
    [
        (b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93.", "an object by STACK_GLOBAL"),
        (b"(ios\nmkdir\n.", "an object by INST"),
        (b"\x80\x02\x82\x01.", "an object by EXT1"),
        (b"cos\nsystem\n.", "the object os.system"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n.", None),
        # Allocates as many bytes as it is told.
        (b"c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR.", "the object __builtin__.bytearray"),
    ],
)
def test_every_way_to_name_an_object_is_known(pickled: bytes, found: str | None) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.PKL", pickled)
    assert fault_of_tensors(file) == found


def test_a_damaged_pickle_is_an_error() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02X\xff\xff\xff\x7f")
    with pytest.raises(ValueError, match="expected 2147483647 bytes"):
        fault_of_tensors(file)


def test_scripts_are_no_tensors() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/constants.pkl", b".")
    assert fault_of_tensors(file) == "a TorchScript program"


def test_names_differ_by_more_than_case() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/x", "1")
        assert fault_of_names(archive) is None
        archive.writestr("a/X", "2")
        assert fault_of_names(archive) == "'a/X' twice"


@pytest.mark.parametrize(
    ("total", "n_bytes", "believed"),
    [
        (2**30, 1, True),
        (2**30 + 1, 1, False),
        (2**40, 2**40, True),
        (100 * 2**30 + 1, 2**30, False),
    ],
)
def test_content_a_hundred_times_its_file_is_not_believed(
    total: int, n_bytes: int, believed: Any
) -> None:
    assert (fault_of_size(total, n_bytes) is None) == believed
