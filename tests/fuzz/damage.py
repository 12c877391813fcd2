"""What can befall a file: cut at every kind of offset, bytes changed, parts moved, zeros, text."""

from __future__ import annotations

import io
import random
import re
import zipfile
from collections.abc import Iterator

__all__ = ["cuts", "damaged", "mixtures"]


# Words and numbers of JSON and of pickles, and what may stand in their place.
_WORD = re.compile(rb'"[^"]*"|-?[\d.]+|true|false|null')
_WORDS = (b"null", b"true", b"-1", b"0", b"1e400", b"9" * 30, b'""', b'"x"', b"[]", b"{}", b"[[1]]")


def cuts(data: bytes) -> list[int]:
    """Return the lengths to cut a file to: around every boundary of its structure.

    These are its first and last bytes, its middle, and of an archive the begin of each head, name
    and content, the directory and the end record; of text every line and cell.
    """
    n = len(data)
    marks = {0, 1, 2, 4, 6, 8, 10, 12, 16, 30, 64, 128, n // 4, n // 2, 3 * n // 4}
    marks |= {n - k for k in (1, 2, 4, 8, 12, 22, 46)}
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            marks.add(archive.start_dir)
            for info in archive.infolist():
                head = info.header_offset
                begin = head + 30 + len(info.filename.encode()) + len(info.extra)
                marks |= {head, head + 4, head + 30, begin, begin + info.compress_size}
    elif data[:4] == b"PAR1":
        footer = n - 8 - int.from_bytes(data[-8:-4], "little")
        marks |= {footer, footer + 1, (footer + n) // 2}
    elif b"," in data[:100]:
        marks |= {i for i, byte in enumerate(data) if byte in b',\n"{}:'}
    around = {mark + step for mark in marks for step in (-1, 0, 1)}
    return sorted(length for length in around if 0 <= length < n)


def damaged(data: bytes, seed: int) -> bytes:
    """Return a copy with one to three faults, drawn from a seed.

    Every other copy of an archive has them within a member whose checksum is right.
    """
    draw = random.Random(seed)
    if data[:2] == b"PK" and seed % 2:
        return _damaged_within(data, draw)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        data = _fault(data, draw)
    return data


def _damaged_within(data: bytes, draw: random.Random) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(made, "w") as copy:
        chosen = draw.choice(archive.infolist())
        for info in archive.infolist():
            content = archive.read(info)
            if info is chosen:
                content = _retold(content, draw) if draw.random() < 0.7 else _fault(content, draw)
            copy.writestr(info.filename, content, info.compress_type)
    return made.getvalue()


def _retold(content: bytes, draw: random.Random) -> bytes:
    """Change one word of a text, such as JSON; bytes of anything else."""
    words = list(_WORD.finditer(content))
    if not words:
        return _fault(content, draw)
    a, b = draw.choice(words).span()
    return content[:a] + draw.choice(_WORDS) + content[b:]


def _fault(data: bytes, draw: random.Random) -> bytes:
    kind = draw.randrange(9)
    a, b = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    near = min(len(data), a + draw.choice((1, 2, 4, 8, 64)))
    noise = draw.randbytes(near - a)
    return {
        0: data[:a] + noise + data[near:],
        1: data[:a] + b"\0" * (near - a) + data[near:],
        2: data[:a] + b"\xff" * (near - a) + data[near:],
        3: data[:a] + data[near:],
        4: data[:a] + noise + data[a:],
        5: data[:a] + data[b:],
        6: data[:b] + data[a:],
        7: data[: a // 2] + data[a // 2 : b][::-1] + data[b:],
        8: _bit(data, min(a, len(data) - 1), draw.randrange(8)),
    }[kind]


def _bit(data: bytes, place: int, bit: int) -> bytes:
    if not data:
        return data
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def mixtures(files: dict[str, bytes]) -> Iterator[tuple[str, str, bytes]]:
    """Yield every content under the name of every other kind: a file with the wrong suffix."""
    for name in files:
        for other, data in files.items():
            if other != name:
                yield name, other, data
