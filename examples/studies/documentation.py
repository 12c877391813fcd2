"""Sentences that come with SciPy, from eight fields, and text of other kinds."""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import files
from pydoc_data.topics import topics

__all__ = ["FIELDS", "Sentence", "documentation", "language_reference", "licenses", "words"]

FIELDS = {
    "statistics": "scipy.stats",
    "signals": "scipy.signal",
    "images": "scipy.ndimage",
    "optimization": "scipy.optimize",
    "matrices": "scipy.linalg",
    "special functions": "scipy.special",
    "interpolation": "scipy.interpolate",
    "integration": "scipy.integrate",
}
_HEADING = re.compile(r"(?m)^ *[^\n]+\n *[-=~^*]{3,}$")
_CODE = re.compile(r"(?m)^ *(?:>>>|\.\.\.|\.\. ).*$")
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@dataclass(frozen=True)
class Sentence:
    """A sentence, the field it is from (an index of `FIELDS`), and the function it describes."""

    text: str
    field: int
    function: str


def words(text: str) -> list[str]:
    """Return the words of a sentence, in small letters."""
    return re.findall(r"[a-z]+", text.lower())


def documentation() -> list[Sentence]:
    """Return the sentences of every function of each field.

    A sentence that several functions have says little about any of them, and would be in training
    and test at a time: it is left out.
    """
    found: dict[str, list[Sentence]] = {}
    for number, name in enumerate(FIELDS.values()):
        for function, text in _described(name):
            for sentence in set(_sentences(text)):
                key = " ".join(words(sentence))
                found.setdefault(key, []).append(Sentence(sentence, number, function))
    return sorted(
        (each[0] for each in found.values() if len(each) == 1),
        key=lambda s: (s.field, s.function, s.text),
    )


def language_reference() -> list[str]:
    """Return sentences of Python's own reference: technical as well, and of no field of SciPy."""
    return sorted({s for text in topics.values() for s in _sentences(text)})


def licenses() -> list[str]:
    """Return sentences of the licenses of packages that are installed in any case."""
    texts = [
        path.read_text(encoding="utf-8")
        for name in ("numpy", "scipy", "torch")
        for path in files(name) or ()
        if re.search(r"licen[sc]e|copying", path.name, re.IGNORECASE) and path.suffix != ".py"
    ]
    return sorted({s for text in texts for s in _sentences(text)})


def _described(module: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of all that a module exports."""
    loaded = importlib.import_module(module)
    for name in sorted(loaded.__all__):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            member = getattr(loaded, name)
        text = None if inspect.ismodule(member) else inspect.getdoc(member)
        if text:
            yield f"{module}.{name}", text


def _sentences(text: str) -> Iterator[str]:
    """Yield what looks like a sentence of prose, neither formula nor list."""
    prose = _CODE.sub("", _HEADING.sub("\n", text))
    for paragraph in re.split(r"\n\s*\n", prose):
        for sentence in _END.split(" ".join(paragraph.split())):
            plain = words(sentence)
            letters = sum(map(len, plain))
            if 6 <= len(plain) <= 40 and sentence[-1] == "." and letters > 0.7 * len(sentence):
                yield sentence
