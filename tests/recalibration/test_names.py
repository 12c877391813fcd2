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


# What an option is where it is left out: a constructor's, and those of RAPS.
DEFAULTS = {"level": 0.9, "n_free": 1, "n_knots": None, "penalty": 0.01, "seed": 0}


@pytest.mark.parametrize("name", RECALIBRATORS)
def test_an_option_left_out_means_the_same_everywhere(name: str) -> None:
    for option, parameter in inspect.signature(getattr(recalibration, name)).parameters.items():
        if parameter.default is not parameter.empty and option in DEFAULTS:
            assert parameter.default == DEFAULTS[option], option
