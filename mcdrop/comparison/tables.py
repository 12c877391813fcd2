"""A comparison as a table and as Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mcdrop.checks import require_installed
from mcdrop.comparison.contents import ComparisonContents
from mcdrop.comparison.scores import MEASURES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["markdown", "table"]

# With fewer splits, Student's t is far wider than the normal.
_FEW = 10
_ARROWS = {"lower": " ↓", "higher": " ↑", "neither": ""}


def table(found: ComparisonContents) -> pd.DataFrame:
    """Return one row per method and measure."""
    require_installed("Comparison.to_pandas", "pandas", "files")
    import pandas as pd

    return pd.DataFrame([_row(found, n, key) for n in found.methods for key in found.metrics[n]])


def _row(found: ComparisonContents, name: str, key: str) -> dict[str, Any]:
    """Return the numbers of one method and measure; those of the reference have no difference."""
    estimate = found.metrics[name][key]
    row: dict[str, Any] = {
        "method": name,
        "metric": key,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "rank": found.ranks[name].get(key),
        "seconds": found.seconds[name],
    }
    paired = found.differences.get(name, {}).get(key)
    if paired is None:
        return row
    return row | {
        "difference": paired.estimate.value,
        "difference_low": paired.estimate.low,
        "difference_high": paired.estimate.high,
        "p_value": paired.p_value if key in found.adjusted[name] else None,
        "adjusted_p_value": found.adjusted[name].get(key),
        "outcome": found.outcomes[name][key],
    }


def markdown(found: ComparisonContents) -> str:
    """Return scores, differences, ranks, verdicts and how they were made."""
    judged = list(found.pairs)
    parts = [
        f"# {found.task.capitalize()}: {len(found.methods)} methods on {found.n_rows} rows",
        "",
    ]
    parts += [f"- {_verdict(found, key)}" for key in judged]
    parts += ["", "## Scores", ""]
    heads = [MEASURES[key].label + _ARROWS[MEASURES[key].better] for key in found.measures]
    parts += _grid(
        ["method", *heads, "seconds"],
        [
            [
                name,
                *(_cell(found.metrics[name].get(key)) for key in found.measures),
                _time(found, name),
            ]
            for name in found.methods
        ],
    )
    if found.differences:
        parts += ["", f"## Difference to {_plain(found.reference)}", ""]
        parts += _grid(
            ["method", *(MEASURES[key].label for key in judged)],
            [
                [name, *(_difference(found, name, key) for key in judged)]
                for name in found.methods[1:]
            ],
        )
    parts += ["", "## Mean rank over splits, 1 is best", ""]
    parts += _grid(
        ["method", *(MEASURES[key].label for key in judged)],
        [[n, *(_rank(found.ranks[n].get(key)) for key in judged)] for n in found.methods],
    )
    return "\n".join([*parts, "", how(found)]) + "\n"


def how(found: ComparisonContents) -> str:
    """Say how intervals and verdicts were made."""
    percent = f"{100 * found.level:g} %"
    if found.n_splits > 1:
        made = (
            f"Intervals ({percent}) and tests are over {found.n_splits} splits, by the corrected "
            "resampled t-test (Nadeau & Bengio 2003)"
        )
    else:
        made = f"Intervals ({percent}) and tests are over the test rows of one split"
    if 1 < found.n_splits < _FEW:
        made += f"; {found.n_splits} splits show large differences only, repeated folds show more"
    return (
        f"{made}, paired by split and row. All verdicts on differences together share the level "
        f"{1 - found.level:.2g} (Holm), and so do all pairs of methods for a winner. ↓ lower is "
        "better, ↑ higher is better."
    )


def _verdict(found: ComparisonContents, key: str) -> str:
    """Name the winner, or those that cannot be told apart."""
    label, winner, leaders = MEASURES[key].label, found.winner(key), found.leaders(key)
    stated = [name for name in found.methods if key in found.metrics[name]]
    if len(stated) < 2:
        return f"{label}: of {_plain(stated[0])} alone, nothing to compare with."
    if winner is not None:
        return f"{label}: {_plain(winner)} is better than every other method."
    if len(leaders) == len(stated):
        return f"{label}: no differences between methods beyond the noise."
    return f"{label}: no winner; not beaten: {', '.join(map(_plain, leaders))}."


def _cell(estimate: object) -> str:
    return "" if estimate is None else str(estimate)


def _time(found: ComparisonContents, name: str) -> str:
    return f"{found.seconds[name]:.2g}"


def _rank(rank: float | None) -> str:
    return "" if rank is None else f"{rank:.1f}"


def _difference(found: ComparisonContents, name: str, key: str) -> str:
    paired = found.differences[name].get(key)
    if paired is None:
        return ""
    # A difference that rounds to zero has no sign.
    shown = re.sub(r"-(0(?:\.0*)?)(?![.\d])", r"\1", str(paired.estimate))
    return f"{shown} {found.outcomes[name][key]}"


def _grid(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([_plain(row[0]), *row[1:]] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(text: str) -> str:
    """Return a name that does not end a cell."""
    return " ".join(text.split()).replace("|", "\\|")
