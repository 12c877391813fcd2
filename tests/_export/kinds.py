"""Which kinds of model export and which are refused, and the page that says so.

``python -m tests._export.kinds > docs/what-exports.md`` writes the page; a slow test compares it.
"""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import torch

import mcdrop
from tests.zoo import ZOO, Entry

__all__ = ["ENTRIES", "NOTES", "outcome", "page", "row"]

ENTRIES = {f"{entry.group}: {entry.name}": entry for entry in ZOO}

NOTES = {
    "Recurrent": "Layers with time first are given time along dimension 0 here, which is not rows;"
    " inside a model that is given rows first they export. Packed lengths are written into these"
    " models for their number of rows.",
    "Attention": "Padding masks are written into these models for their number of rows; pass them"
    " as an argument, with rows first.",
    "Hugging Face": "Masks that these models make of an `attention_mask` are traced for one number"
    " of rows; BERT exports with `input_ids` alone. DropPath draws random numbers of its own:"
    " `mcdrop.layers.StochasticDepth` in its place exports.",
}


def outcome(entry: Entry, suffix: str) -> str:
    """Return "yes", or why a model is refused."""
    model, inputs = entry.make()
    with tempfile.TemporaryDirectory() as folder:
        try:
            mcdrop.export(
                model,
                inputs,
                Path(folder) / f"model{suffix}",
                n_samples=2,
                task="regression",
                select=entry.select,
            )
        except mcdrop.McdropError as error:
            return reason(str(error))
    return "yes"


def reason(text: str) -> str:
    """Return what an error says of the model, as one cell of a table."""
    found = text.split(", but got ", 1)[-1].rsplit(". ", 1)[0]
    # By how much an output is off depends on the masks.
    found = re.sub(r"is off by [\d.e+-]+", "is off", found)
    return " ".join(found.replace("|", "/").split())[:160]


def row(entry: Entry) -> str:
    """Return the line of the page about a model."""
    found = outcome(entry, ".pt2")
    onnx = outcome(entry, ".onnx") if found == "yes" else "as .pt2"
    return f"| {entry.name} | {found} | {onnx} |"


def page(row_of: Callable[[Entry], str] = row) -> str:
    """Return the text of docs/what-exports.md."""
    lines = [
        "# What exports",
        "",
        "Every model of [what is live](what-is-live.md), given to `mcdrop.export` as a `.pt2` and",
        "as an ONNX file. Where it says yes, the program was compared with predictions before and",
        "after it was written, on another number of rows, too. Everything else is refused by an",
        "error with this reason, and no file is written. Examples have two or three rows.",
        "",
        "This page is written by `python -m tests._export.kinds > docs/what-exports.md`, and",
        "compared with the code in the slow tests. How it works: [export](export.md).",
    ]
    for group in dict.fromkeys(entry.group for entry in ZOO):
        lines += ["", f"## {group}", "", "| model | .pt2 | .onnx |", "|---|---|---|"]
        lines += [row_of(entry) for entry in ZOO if entry.group == group]
        if group in NOTES:
            lines += ["", *textwrap.wrap(NOTES[group], 100)]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(page())  # noqa: T201
