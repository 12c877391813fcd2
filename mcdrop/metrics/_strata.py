"""The check of `stratum`, the passes in one stratum, of scores that need independent passes."""

from __future__ import annotations

from mcdrop._masks.stratified import STRATUM
from mcdrop.checks import require_count
from mcdrop.errors import RangeError

__all__ = ["require_stratum"]


def require_stratum(function: str, stratum: int, passes: int) -> None:
    """Refuse a stratum that cannot be, or among whose passes none are known to be independent.

    Args:
        function: Public function to name.
        stratum: Passes in one stratum.
        passes: Passes in total.
    """
    remedy = "Pass 16 for passes of stratified masks, None for independent ones"
    require_count(function, "stratum", stratum, 2, remedy=remedy)
    if stratum != STRATUM and passes <= stratum:
        condition = f"be 16, or less than the number of passes, {passes}"
        raise RangeError.of(function, "stratum", condition, stratum, remedy)
