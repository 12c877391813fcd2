"""The rules: how each function that drops units, or draws random numbers, is answered.

Adding a function touches the file of its kind only; `registry` holds the user's own.
"""

from collections.abc import Mapping

from mcdrop._live.call import Rule, TorchFunction
from mcdrop._live.rules.attention import attention_rules, plain_attention_rules
from mcdrop._live.rules.dropout import dropout_rules, plain_dropout_rules
from mcdrop._live.rules.exported import exported_rules
from mcdrop._live.rules.folded import folded_rules
from mcdrop._live.rules.fused import ACCEPTING, compute, mapped_rules
from mcdrop._live.rules.in_place import in_place_rules
from mcdrop._live.rules.memory_access import guarded, memory_rules
from mcdrop._live.rules.packed import packed_rules
from mcdrop._live.rules.pooling import pooling_rules
from mcdrop._live.rules.random_numbers import random_rules
from mcdrop._live.rules.recurrent import plain_recurrent_rules, recurrent_rules
from mcdrop._live.rules.registry import registered_rules

__all__ = ["ACCEPTING", "PLAIN", "compute", "live_rules"]

PLAIN: Mapping[TorchFunction, Rule] = guarded(
    {
        **random_rules(),
        **exported_rules(),
        **plain_dropout_rules(),
        **plain_recurrent_rules(),
        **plain_attention_rules(),
        **in_place_rules(),
        **memory_rules(),
    }
)
"""The model with all dropout off, also where it asks for it in eval mode: torch's own functions
do the work, so that the live rules can be compared with them."""

_LIVE: Mapping[TorchFunction, Rule] = guarded(
    {
        **random_rules(),
        **exported_rules(),
        **dropout_rules(),
        **recurrent_rules(),
        **packed_rules(),
        **folded_rules(),
        **pooling_rules(),
        **in_place_rules(),
        **memory_rules(),
        **mapped_rules(),
        **attention_rules(),
    }
)


def live_rules() -> Mapping[TorchFunction, Rule]:
    """Return the rules that keep dropout alive, with those that the user has registered."""
    return {**_LIVE, **registered_rules()}
