"""Notes calls of dropout functions in an observed run, and answers them without dropout."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from mcdrop._live.call import Call, TorchFunction
from mcdrop._live.rules.attention import plain_attention_rules
from mcdrop._live.rules.dropout import plain_dropout_rules
from mcdrop._live.rules.memory_access import exposing
from mcdrop._live.rules.recurrent import plain_recurrent_rules, rate_between_layers
from mcdrop._live.rules.registry import registered_rules
from mcdrop._masks.source import MaskSource, Span
from mcdrop._twin.noise import NoiseFollower

__all__ = ["DropoutCalls"]

_RECURRENT, _ATTENTION = plain_recurrent_rules(), plain_attention_rules()
_OFF = {**plain_dropout_rules(), **_RECURRENT, **_ATTENTION}
_EXPOSING = exposing()
_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


class DropoutCalls(TorchFunctionMode):
    """Notes calls of dropout functions at a rate above zero, and answers without dropout.

    Args:
        follower: Where draws are noted.
        weights: Storage addresses of the parameters, which the copy shares with the caller's model.

    Attributes:
        seen: The calls as sites, whatever their rate; the modules being called are for others to
            keep up to date.
    """

    def __init__(self, follower: NoiseFollower, weights: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self._follower = follower
        source = MaskSource(0, torch.device("cpu"))
        self._call = Call(_OFF, source, True, Span(), shared=weights)
        self.seen = self._call.seen
        self._registered = registered_rules()

    def __torch_function__(
        self,
        func: TorchFunction,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not self._follower.paused:
            if func in _EXPOSING:
                self._call.check_not_shared((args[:1], kwargs.get("tensor")))
            self._call.check_not_shared(kwargs.get("out"))
        if self._follower.paused or (func not in _OFF and func not in self._registered):
            return func(*args, **kwargs)
        if func in self._registered:
            return self._replaced(func, args, kwargs)
        if _rate(func, args, kwargs) > 0:
            draw = self._follower.note(str(getattr(func, "__name__", func)))
            draw.is_call = True
            draw.meets.add("mask")
        return _OFF[func](self._call, func, args, kwargs)

    def _replaced(self, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer what the user has registered by the replacement, whose dropout is live already."""
        self._follower.paused = True
        try:
            return self._registered[func](self._call, func, args, kwargs)
        finally:
            self._follower.paused = False


def _rate(func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Return the rate that a dropout function is given, whatever flag it is given."""
    if func is F.multi_head_attention_forward:
        return float(_MULTI_HEAD.bind(*args, **kwargs).arguments["dropout_p"])
    if func in _RECURRENT:
        return rate_between_layers(args, kwargs)
    if func in _ATTENTION:
        return float(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
    return float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))
