from __future__ import annotations

import inspect

import pytest

from mcdrop import recalibration

RECALIBRATORS = [name for name in recalibration.__all__ if not name.endswith("Prediction")]


def test_export_list_is_sorted_and_true() -> None:
    assert recalibration.__all__ == sorted(recalibration.__all__)
    assert all(hasattr(recalibration, name) for name in recalibration.__all__)


@pytest.mark.parametrize("name", RECALIBRATORS)
def test_every_recalibrator_is_fitted_and_then_called(name: str) -> None:
    kind = getattr(recalibration, name)
    assert list(inspect.signature(kind.fit).parameters)[:3] == ["self", "prediction", "y"]
    assert list(inspect.signature(kind.__call__).parameters)[:2] == ["self", "prediction"]
    text = inspect.getdoc(kind) or ""
    assert "\nSource:\n" in text
    assert "\nExample:\n" in text
