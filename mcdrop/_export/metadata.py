"""What an exported file says about itself, for people and for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["METADATA", "facts", "read_onnx_metadata"]

METADATA = "mcdrop.json"
"""Name of the extra file in a .pt2 archive, and of the metadata property of an ONNX model."""


def read_onnx_metadata(path: Path) -> dict[str, Any] | None:
    """Return what `export` wrote into an ONNX file; None if something else wrote it.

    Raises:
        ValueError: If it is no ONNX file.
        OSError: If it cannot be opened.
    """
    import onnx
    from google.protobuf.message import (  # type: ignore[import-untyped, unused-ignore]
        DecodeError,
    )

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    found = {each.key: each.value for each in model.metadata_props}
    return json.loads(found[METADATA]) if METADATA in found else None


def facts(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the metadata as lines to print, by name."""
    lines = {
        "model": metadata["model"],
        "passes": f"{metadata['n_samples']}, masks shared by all rows and baked in"
        + (", stratified" if metadata["stratified"] else ""),
        "seed": str(metadata["seed"]),
        "task": metadata["task"],
        "inputs": "\n".join(_shown(each) for each in metadata["inputs"]),
        "outputs": "\n".join(_shown(each) for each in metadata["outputs"]),
        "dropout": "\n".join(
            f"{site['name']} ({site['kind']}, rate {site['p']:g})" for site in metadata["sites"]
        ),
        "rows repeated": f"at the {metadata['folded_at']}",
        "recalibration": "\n".join(map(_step, metadata["recalibration"])) or "none",
        "written by": f"mcdrop {metadata['mcdrop']}, torch {metadata['torch']}",
    }
    for name in ("noise_std", "members", "classes"):
        if metadata.get(name) is not None:
            lines[name.replace("_", " ")] = str(metadata[name])
    return lines


def _shown(tensor: dict[str, Any]) -> str:
    sizes = ", ".join(["rows", *map(str, tensor["row_shape"])])
    return f"{tensor['name']}: {tensor['dtype']} ({sizes})"


def _step(step: dict[str, Any]) -> str:
    options = ", ".join(f"{name} {value}" for name, value in step.items() if name != "kind")
    return f"{step['kind']} ({options})"
