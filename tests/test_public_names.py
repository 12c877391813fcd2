"""One name per thing: no public signature calls what has a name by another one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

PLACES = (
    "mcdrop",
    "mcdrop.acquisition",
    "mcdrop.baselines",
    "mcdrop.comparison",
    "mcdrop.displays",
    "mcdrop.estimators",
    "mcdrop.layers",
    "mcdrop.metrics",
    "mcdrop.prediction",
    "mcdrop.recalibration",
    "mcdrop.report",
)
# Other words for: p, max_epochs, learning_rate, n_samples, n_members, validation_fraction,
# weight_decay, random_state or seed, batch_size, noise_std.
OTHER_WORDS = {
    *("rate", "rates", "dropout", "dropout_rate", "dropout_rates"),
    *("epochs", "n_epochs", "max_iter"),
    *("lr", "learning_rate_init"),
    *("n_passes", "passes", "S", "T", "num_samples", "mc_samples"),
    *("n_estimators", "num_estimators", "members"),
    *("validation", "validation_share", "validation_split"),
    *("weight_decays", "l2"),
    *("rng", "random_seed", "generator"),
    *("batch", "batchsize"),
    *("noise", "sigma", "noise_scale"),
}


def signatures() -> Iterator[tuple[str, inspect.Signature, Any]]:
    """Yield the name, signature and owner of every public function, class and method."""
    for place in PLACES:
        module = import_module(place)
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isclass(found) and issubclass(found, Exception):
                continue
            calls: list[tuple[str, Callable[..., Any]]] = [(name, found)]
            if inspect.isclass(found):
                own = inspect.getmembers(found, inspect.isroutine)
                calls += [(f"{name}.{n}", m) for n, m in own if not n.startswith("_")]
            for label, call in calls:
                if callable(call) and (call.__module__ or "").startswith("mcdrop"):
                    yield f"{place}.{label}", inspect.signature(call), found


def test_nothing_has_a_second_name() -> None:
    taken = [
        f"{name}({other}=)"
        for name, signature, _ in signatures()
        for other in signature.parameters.keys() & OTHER_WORDS
    ]
    assert not taken


def test_what_is_fitted_to_rows_takes_random_state_and_the_rest_a_seed() -> None:
    """As scikit-learn does: an estimator and a split have a `random_state`."""
    for name, signature, owner in signatures():
        fit = getattr(owner, "fit", None)
        to_rows = fit is not None and "X" in inspect.signature(fit).parameters
        to_rows = to_rows or {"X", "cv"} <= signature.parameters.keys()
        assert not (to_rows and "seed" in signature.parameters), name
        assert to_rows or "random_state" not in signature.parameters, name


@pytest.mark.parametrize("word", ["p", "max_epochs", "learning_rate", "weight_decay", "n_members"])
def test_the_names_are_in_use(word: str) -> None:
    assert any(word in signature.parameters for _, signature, _ in signatures())
