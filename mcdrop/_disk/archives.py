"""What an archive may hold before torch or NumPy reads it: no code, and no more than it shows.

`torch.load(weights_only=True)` refuses code, but inflates compressed members, and torch reads some
pickles of exported programs without that option. So these files are looked at first.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from typing import BinaryIO

__all__ = ["fault_of_names", "fault_of_size", "fault_of_tensors"]

# What a pickle of tensors in plain containers names, and nothing that allocates by a number.
_OF_TENSORS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(parameter|tensor_v[23])|"
    r"torch\.nn\.parameter Parameter|torch\.storage (Untyped|Typed)Storage|"
    r"torch (Size|device|bool|[A-Z][A-Za-z0-9]*Storage|(b?float|u?int|complex)[0-9a-z_]+)"
)
# Opcodes that name an object in another way than `GLOBAL`, which alone torch.save writes.
_OTHER_NAMES = ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
# Deflate reaches 1032; numbers that a model was trained on seldom 10.
_RATIO = 100
_SMALL = 2**30


def fault_of_names(archive: zipfile.ZipFile) -> str | None:
    """Return a name that two members share, so that two readers might see different files.

    torch finds members without regard to case.

    Args:
        archive: An open archive.
    """
    seen: set[str] = set()
    for name in archive.namelist():
        if name.casefold() in seen:
            return f"{name!r} twice"
        seen.add(name.casefold())
    return None


def fault_of_size(total: int, n_bytes: int) -> str | None:
    """Return how much larger the content is than its file, if that is beyond belief.

    Args:
        total: Bytes of the content in memory.
        n_bytes: Bytes of the file.

    Example:
        >>> fault_of_size(2**40, 1000)
        '1,099,511,627,776 bytes of content in a file of 1,000'
    """
    if total > max(_SMALL, _RATIO * n_bytes):
        return f"{total:,} bytes of content in a file of {n_bytes:,}"
    return None


def fault_of_tensors(file: BinaryIO) -> str | None:
    """Return why a file is not what torch.save writes for tensors in plain containers.

    Its members are stored, not compressed, so that reading it takes no more memory than its size;
    and its pickle names nothing that could run code or allocate memory by a number.

    Args:
        file: A file open for reading.

    Returns:
        What it holds, in a few words, or None if nothing is wrong.

    Raises:
        ValueError: If its pickle is damaged.
        zipfile.BadZipFile: If it is no archive.
    """
    n_bytes = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            return "compressed members"
        if sum(info.file_size for info in infos) > n_bytes:
            return "overlapping members"
        if fault := fault_of_names(archive):
            return fault
        pickles = [info for info in infos if info.filename.casefold().endswith(".pkl")]
        # Between files of tensors and TorchScript torch decides by this name.
        if any("constants.pkl" in info.filename.casefold() for info in infos):
            return "a TorchScript program"
        for info in pickles:
            if fault := _foreign_name(archive.read(info)):
                return fault
    return None


def _foreign_name(pickled: bytes) -> str | None:
    """Return an object that a pickle names and that is no part of a tensor."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in _OTHER_NAMES:
            return f"an object by {opcode.name}"
        if opcode.name == "GLOBAL" and not _OF_TENSORS.fullmatch(str(argument)):
            return f"the object {str(argument).replace(' ', '.')}"
    return None
