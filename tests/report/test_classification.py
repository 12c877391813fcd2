from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop.report import calibration_report
from tests.report.made import certain, class_prediction


def test_scores_equal_their_definitions() -> None:
    prediction, y = class_prediction()
    metrics = calibration_report(prediction, y, n_resamples=20).metrics
    probs, labels = prediction.probs.numpy(), y.numpy()
    outcome = np.eye(3)[labels]
    assert metrics["accuracy"].value == np.mean(probs.argmax(1) == labels)
    nll = -np.log(probs[np.arange(len(labels)), labels]).mean()
    assert metrics["nll"].value == pytest.approx(nll, rel=1e-12)
    assert metrics["brier"].value == pytest.approx(
        ((probs - outcome) ** 2).sum(1).mean(), rel=1e-12
    )
    assert metrics["confidence"].value == pytest.approx(probs.max(1).mean(), rel=1e-12)
    entropy = -(probs * np.log(probs)).sum(1).mean()
    assert metrics["predictive_entropy"].value == pytest.approx(entropy, rel=1e-12)
    assert metrics["ece"].low >= 0


def test_mutual_information_needs_passes() -> None:
    closed, y = class_prediction()
    passes, _ = class_prediction(n_samples=20)
    report = calibration_report(passes, y, baselines={"Closed": closed}, n_resamples=20)
    assert report.metrics["mutual_information"].value > 0
    assert report.notes["Closed"]["mutual_information"] == "one fixed set of weights has none"
    assert "mutual_information" not in report.differences["Closed"]
    assert any("of the predictive entropy is epistemic" in finding for finding in report.findings)
    assert "Monte Carlo error of the confidence" in report.findings[-1]


def test_an_impossible_label_makes_the_likelihood_missing_with_the_reason() -> None:
    probs = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]] * 10, dtype=torch.float64)
    y = torch.tensor([1, 0, 1] * 10)
    report = calibration_report(certain(probs), y, n_resamples=20)
    assert "nll" not in report.metrics
    expected = "infinite: the true class of 10 rows was given probability 0"
    assert report.notes["MC dropout"]["nll"] == expected
