"""Every way to run Monte Carlo dropout that is raced, as its own documentation says to call it."""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from by_hand import Moments, live_copy, loop, replicated
from racing import Call
from torch import Tensor, nn

__all__ = ["CONTESTANTS", "LIBRARIES", "version_of"]

# Distribution that a contestant needs; the others are written by hand.
LIBRARIES = {
    "torch-uncertainty": "torch-uncertainty",
    "baal": "baal",
    "lightning-uq-box": "lightning-uq-box",
    "mcdrop": "mcdrop",
    "mcdrop shared": "mcdrop",
}

Maker = Callable[[nn.Module, Tensor, int], dict[str, Call]]


def _by_hand(
    run: Callable[[nn.Module, Tensor, int], Tensor], model: nn.Module, x: Tensor, n_samples: int
) -> dict[str, Call]:
    live = live_copy(model)

    def call(seed: int) -> Moments:
        torch.manual_seed(seed)
        return _moments(run(live, x, n_samples), dim=0)

    return {"": call}


def _mcdrop(
    masks: Literal["independent", "shared"], model: nn.Module, x: Tensor, n_samples: int
) -> dict[str, Call]:
    import mcdrop

    mc = mcdrop.wrap(model, masks=masks)

    def call(seed: int) -> Moments:
        prediction = mc.predict_with_uncertainty(
            x, n_samples=n_samples, seed=seed, task="regression"
        )
        return prediction.mean, prediction.variance

    return {"": call}


def _torch_uncertainty(model: nn.Module, x: Tensor, n_samples: int) -> dict[str, Call]:
    methods: Any = importlib.import_module("torch_uncertainty.methods")

    def variant(on_batch: bool) -> Call:
        net = methods.mc_dropout(
            copy.deepcopy(model),
            num_estimators=n_samples,
            task="regression",
            probabilistic=False,
            on_batch=on_batch,
        ).eval()

        def call(seed: int) -> Moments:
            torch.manual_seed(seed)
            with torch.inference_mode():
                return _moments(net(x).unflatten(0, (n_samples, x.shape[0])), dim=0)

        return call

    return {"on_batch=True": variant(True), "on_batch=False": variant(False)}


def _baal(model: nn.Module, x: Tensor, n_samples: int) -> dict[str, Call]:
    dropout: Any = importlib.import_module("baal.bayesian.dropout")
    wrapping: Any = importlib.import_module("baal.modelwrapper")

    def variant(replicate: bool) -> Call:
        arguments = wrapping.TrainingArgs(replicate_in_memory=replicate, use_cuda=x.is_cuda)
        wrapper = wrapping.ModelWrapper(dropout.MCDropoutModule(copy.deepcopy(model)), arguments)
        wrapper.eval()

        def call(seed: int) -> Moments:
            torch.manual_seed(seed)
            return _moments(wrapper.predict_on_batch(x, iterations=n_samples), dim=-1)

        return call

    return {
        "replicate_in_memory=True": variant(True),
        "replicate_in_memory=False": variant(False),
    }


def _lightning_uq_box(model: nn.Module, x: Tensor, n_samples: int) -> dict[str, Call]:
    methods: Any = importlib.import_module("lightning_uq_box.uq_methods")
    net = methods.MCDropoutRegression(copy.deepcopy(model), n_samples, nn.MSELoss()).to(x.device)

    def call(seed: int) -> Moments:
        torch.manual_seed(seed)
        answer = net.predict_step(x)  # the first column of the output only
        return answer["pred"].view(-1, 1), answer["pred_uct"].view(-1, 1).square()

    return {"": call}


def _moments(samples: Tensor, dim: int) -> Moments:
    return samples.mean(dim=dim), samples.var(dim=dim)


CONTESTANTS: dict[str, Maker] = {
    "loop": partial(_by_hand, loop),
    "replicated batch": partial(_by_hand, replicated),
    "torch-uncertainty": _torch_uncertainty,
    "baal": _baal,
    "lightning-uq-box": _lightning_uq_box,
    "mcdrop": partial(_mcdrop, "independent"),
    "mcdrop shared": partial(_mcdrop, "shared"),
}


def version_of(name: str) -> str | None:
    """Return the version of the library behind a contestant; None for those by hand."""
    return importlib.metadata.version(LIBRARIES[name]) if name in LIBRARIES else None
