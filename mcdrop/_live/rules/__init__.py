"""The rules: how each function that drops units, or draws random numbers, is answered.

Adding a function touches the file of its kind only.
"""

from collections.abc import Mapping

from mcdrop._live.mode import Function, Rule
from mcdrop._live.rules.attention import attention_rules, plain_attention_rules
from mcdrop._live.rules.dropout import dropout_rules, plain_dropout_rules
from mcdrop._live.rules.exported import exported_rules
from mcdrop._live.rules.folded import folded_rules
from mcdrop._live.rules.fused import LAZY, compute, mapped_rules
from mcdrop._live.rules.packed import packed_rules
from mcdrop._live.rules.random_numbers import random_rules
from mcdrop._live.rules.recurrent import plain_recurrent_rules, recurrent_rules

__all__ = ["LAZY", "LIVE", "PLAIN", "compute"]

# The model as it is with all dropout off, also where it asks for it in eval mode: torch's own
# functions do the work, so that the rules below can be compared with them.
PLAIN: Mapping[Function, Rule] = {
    **random_rules(),
    **exported_rules(),
    **plain_dropout_rules(),
    **plain_recurrent_rules(),
    **plain_attention_rules(),
}

LIVE: Mapping[Function, Rule] = {
    **random_rules(),
    **exported_rules(),
    **dropout_rules(),
    **recurrent_rules(),
    **packed_rules(),
    **folded_rules(),
    **mapped_rules(),
    **attention_rules(),
}
