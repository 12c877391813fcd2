"""Pictures of rows that are images: read back by matplotlib's own reader of PNG."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from mcdrop.errors import NonFiniteError, ShapeError
from mcdrop.report import calibration_report
from mcdrop.report.thumbnails import checked_images, data_uri
from tests.report.made import class_prediction, normal_prediction
from tests.report.test_pixels import segmented


def read(address: str) -> np.ndarray:
    kind, text = address.split(",")
    assert kind == "data:image/png;base64"
    found: np.ndarray = matplotlib.image.imread(io.BytesIO(base64.b64decode(text)))
    return np.round(255 * found).astype(np.uint8)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_a_picture_is_a_png_of_its_values(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    assert (read(data_uri(image)) == image).all()


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 1, 4, 5), (6, 4, 5, 1)])
def test_gray_images_of_any_layout_are_scaled_together(shape: tuple[int, ...]) -> None:
    values = torch.linspace(-2, 3, 120).reshape(shape)
    (images,) = checked_images(values, 6).values()
    assert images.shape == (6, 4, 5)
    assert (images.min(), images.max()) == (0, 255)
    assert images.reshape(-1)[60] == round(255 * 60 / 119)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 4, 5, 3)])
def test_colors_come_last(shape: tuple[int, ...]) -> None:
    assert checked_images(torch.rand(shape), 2)["image"].shape == (2, 4, 5, 3)


def test_large_images_lose_every_other_pixel_and_flat_ones_are_black() -> None:
    assert checked_images(np.ones((1, 256, 100)), 1)["image"].shape == (1, 128, 50)
    assert checked_images(np.ones((1, 4, 4)), 1)["image"].max() == 0


def test_rows_to_look_at_show_their_own_pictures(tmp_path: Path) -> None:
    prediction, y = class_prediction(n=50)
    # The gray of an image tells its row.
    images = torch.arange(50.0)[:, None, None].expand(50, 3, 3)
    report = calibration_report(prediction, y, images=images, ids=range(100, 150), n_resamples=20)
    for table in report.rows:
        assert [str(100 + place) for place in table.places] == [row[0] for row in table.rows]
        grays = [int(image[0, 0]) for image in table.pictures["image"]]
        assert grays == [round(255 * place / 49) for place in table.places]
    page = report.to_html(tmp_path / "r.html").read_text()
    shown = re.findall(r'<img src="([^"]*)" alt="image of row (\d+)">', page)
    assert len(shown) == 16
    for address, number in shown:
        assert read(address)[0, 0] == round(255 * (int(number) - 100) / 49)
    assert "pictures" not in json.dumps(json.loads(report.to_json(tmp_path / "r.json").read_text()))


def test_regression_takes_images_too() -> None:
    prediction, y = normal_prediction(n=30)
    report = calibration_report(prediction, y, images=np.zeros((30, 4, 4, 3)), n_resamples=20)
    assert report.rows[0].pictures["image"][0].shape == (4, 4, 3)


def test_a_segmentation_shows_its_entropy_and_its_errors() -> None:
    prediction, y = segmented()
    report = calibration_report(prediction, y, images=torch.rand(30, 3, 4, 5), n_resamples=20)
    worst, unsure = report.rows
    right = (prediction.labels == y).double().mean(dim=(1, 2))
    given = prediction.probs.gather(1, y[:, None])[:, 0].mean(dim=(1, 2))
    entropy = prediction.predictive_entropy.mean(dim=(1, 2))
    assert worst.places[0] == int(given.argmin())
    assert unsure.places[0] == int(entropy.argmax())
    for table in report.rows:
        assert list(table.pictures) == ["image", "predictive entropy", "wrong pixels"]
        for i, place in enumerate(table.places):
            assert table.rows[i][1] == pytest.approx(right[place].item())
            wrong = table.pictures["wrong pixels"][i] == 255
            assert (wrong == (prediction.labels[place] != y[place]).numpy()).all()
            share = prediction.predictive_entropy[place] / np.log(3)
            bright = table.pictures["predictive entropy"][i]
            assert np.abs(bright - 255 * share.numpy()).max() <= 0.5 + 1e-9


def test_mistakes_are_named() -> None:
    prediction, y = normal_prediction(n=30)
    for images in (np.zeros((29, 4, 4)), np.zeros((30, 16)), np.zeros((30, 2, 4, 4))):
        with pytest.raises(
            ShapeError, match=r"`images` to have shape \(30, H, W\), \(30, C, H, W\)"
        ):
            calibration_report(prediction, y, images=images)
    with pytest.raises(NonFiniteError, match="`images` to hold"):
        calibration_report(prediction, y, images=np.full((30, 4, 4), np.nan))
