"""Programs exported in train mode: what is not dropout goes back to inference."""

from __future__ import annotations

from typing import Any

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.functorch import aten

__all__ = ["exported_rules"]


def exported_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    # torch 2.4 exports the functional form, which returns the new statistics as well.
    functional = aten("_native_batch_norm_legit_functional")
    return dict.fromkeys((*aten("batch_norm"), *functional), _batch_norm)


def _batch_norm(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Use the running statistics and leave them alone: argument 5 is `training`."""
    running_mean = args[3]
    # Without running statistics the batch's own are all there is, in eval mode as well.
    training = running_mean is None
    return func(*args[:5], training, *args[6:], **kwargs)
