"""Rows that are images: their pictures beside the rows to look at, and maps of their pixels."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mcdrop.checks import require_finite
from mcdrop.errors import ShapeError
from mcdrop.prediction import ClassificationPrediction
from mcdrop.prediction.targets import class_labels, numbers
from mcdrop.report.rows import table_of
from mcdrop.report.values import RowTable

__all__ = ["Pictures", "checked_images", "data_uri", "image_rows", "pixel_maps", "with_pictures"]

Gray = npt.NDArray[np.uint8]
# One picture per row of the prediction, by what they show.
Pictures = Mapping[str, Gray]

# Pixels of the longer side that a page keeps: enough to recognize a row, small as a file.
_LONGEST = 128
_CHANNELS = (1, 3)


def checked_images(images: Any, n_rows: int) -> Pictures:
    """Return images as bytes, (N, H, W) or (N, H, W, 3); nothing for None.

    Raises:
        ShapeError: If they are not one image per row.
        NonFiniteError: If a value is NaN or infinite.
    """
    if images is None:
        return {}
    values = numbers("calibration_report", "images", images).detach().cpu()
    if values.ndim == 4 and values.shape[1] in _CHANNELS:
        values = values.movedim(1, -1)
    fits = values.ndim == 3 or (values.ndim == 4 and values.shape[-1] in _CHANNELS)
    if not fits or len(values) != n_rows or 0 in values.shape:
        raise ShapeError.of(
            "calibration_report",
            "images",
            f"have shape ({n_rows}, H, W), ({n_rows}, C, H, W) or ({n_rows}, H, W, C), C = 1 or 3",
            tuple(values.shape),
            "Pass one image per row, gray or in three colors",
        )
    require_finite("calibration_report", axis=0, images=values)
    if values.ndim == 4 and values.shape[-1] == 1:
        values = values[..., 0]
    return {"image": _bytes(values.numpy())}


def pixel_maps(prediction: ClassificationPrediction, labels: Any) -> Pictures:
    """Return predictive entropy and wrong pixels of each image, bright where there is more."""
    if prediction.probs.ndim != 4:
        return {}
    y = class_labels("calibration_report", labels, prediction.probs, index=prediction.index)
    entropy = prediction.predictive_entropy.detach().cpu().double()
    # At log C all classes are equally probable.
    share = entropy / math.log(max(prediction.probs.shape[1], 2))
    wrong = (prediction.labels != y).cpu().double()
    return {
        "predictive entropy": _bytes(share.numpy(), (0.0, 1.0)),
        "wrong pixels": _bytes(wrong.numpy(), (0.0, 1.0)),
    }


def image_rows(
    prediction: ClassificationPrediction, labels: Any, ids: Sequence[str]
) -> tuple[RowTable, ...]:
    """Return the images whose pixels were least expected on average, and the least sure ones."""
    y = class_labels("calibration_report", labels, prediction.probs, index=prediction.index)
    given = prediction.probs.gather(1, y.unsqueeze(1))[:, 0].flatten(1)
    right = (prediction.labels == y).flatten(1)
    entropy = prediction.predictive_entropy.flatten(1)
    accuracy, true, unsure = (
        part.detach().cpu().double().mean(dim=1).numpy() for part in (right, given, entropy)
    )
    columns: dict[str, list[Any]] = {
        "accuracy of its pixels": accuracy.tolist(),
        "mean probability of the true class": true.tolist(),
        "mean predictive entropy (nats)": unsure.tolist(),
    }
    least = "lowest mean probability of the true class"
    return (
        table_of("Least expected images", least, columns, ids, -true),
        table_of("Least sure images", "largest mean predictive entropy", columns, ids, unsure),
    )


def with_pictures(tables: Sequence[RowTable], pictures: Pictures) -> tuple[RowTable, ...]:
    """Return the tables with the pictures of their rows."""
    return tuple(
        replace(
            table,
            pictures={
                name: tuple(images[place] for place in table.places)
                for name, images in pictures.items()
            },
        )
        for table in tables
    )


def data_uri(image: Gray) -> str:
    """Return an image as an address that holds it whole, a PNG."""
    import struct
    import zlib

    height, width = image.shape[:2]
    color = 2 if image.ndim == 3 else 0
    # Each line begins with its filter: 0, none.
    lines = b"".join(b"\0" + line.tobytes() for line in image)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    png = b"\x89PNG\r\n\x1a\n" + body
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _bytes(values: npt.NDArray[np.float64], span: tuple[float, float] | None = None) -> Gray:
    """Return values of 0 to 255 over `span`, by default that of all images; every k-th pixel."""
    step = math.ceil(max(values.shape[1:3]) / _LONGEST)
    shown = values[:, ::step, ::step]
    low, high = span or (float(values.min()), float(values.max()))
    scaled = (shown - low) / ((high - low) or 1.0)
    return np.ascontiguousarray(np.round(255 * scaled.clip(0, 1)).astype(np.uint8))
