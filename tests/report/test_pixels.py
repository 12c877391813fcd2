from __future__ import annotations

import pytest
import torch

from mcdrop.prediction import ClassificationPrediction
from mcdrop.prediction.classification import entropy
from mcdrop.report import calibration_report
from mcdrop.report.pixels import one_pixel_per_image


def segmented(n: int = 30, passes: int = 4) -> tuple[ClassificationPrediction, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    samples = torch.randn(passes, n, 3, 4, 5, generator=draw, dtype=torch.float64).softmax(dim=2)
    probs = samples.mean(dim=0)
    y = torch.randint(0, 3, (n, 4, 5), generator=draw)
    prediction = ClassificationPrediction(
        probs=probs, probs_std=samples.std(dim=0),
        expected_entropy=entropy(samples, dim=2).mean(dim=0),
        variation_ratio=torch.zeros(n, 4, 5), mcse=samples.std(dim=0) / 2, n_samples=passes,
        samples=samples,
    )  # fmt: skip
    return prediction, y


def test_every_field_is_taken_at_the_same_pixel() -> None:
    prediction, y = segmented()
    chosen, labels, (remark,) = one_pixel_per_image({"A": prediction}, y, 0)
    one = chosen["A"]
    assert one.probs.shape == (30, 3)
    assert one.samples is not None
    assert prediction.samples is not None
    for i in range(30):
        same = (prediction.probs[i] == one.probs[i][:, None, None]).all(dim=0)
        ((row, column),) = same.nonzero().tolist()
        assert labels[i] == y[i, row, column]
        assert one.expected_entropy[i] == prediction.expected_entropy[i, row, column]
        assert bool((one.samples[:, i] == prediction.samples[:, i, :, row, column]).all())
    assert "One random pixel of each of the 30 images" in remark


def test_rows_of_classes_pass_as_they_are() -> None:
    prediction, _ = segmented()
    flat = prediction._map(lambda _, values: values[..., 0, 0])
    chosen, y, remarks = one_pixel_per_image({"A": flat}, [0] * 30, 0)
    assert chosen["A"] is flat
    assert (y, remarks) == ([0] * 30, ())


def test_a_segmentation_has_its_report() -> None:
    prediction, y = segmented()
    report = calibration_report(prediction, y, baselines={"Twin": prediction}, n_resamples=20)
    assert report.n_rows == 30
    assert report.metrics["accuracy"].n == 30
    assert set(report.outcomes["Twin"].values()) == {"identical"}
    assert "random pixel" in report.remarks[0]
    with pytest.raises(ValueError, match=r"`y` to have shape \(30, 4, 5\)"):
        calibration_report(prediction, y[:, :3])
