"""A comparison as a table, as Markdown and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcdrop.comparison.contents import ComparisonContents
from mcdrop.comparison.picture import draw
from mcdrop.comparison.tables import markdown, table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Comparison"]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(ComparisonContents):
    """Scores of several methods on the same test rows, with paired differences and ranks.

    The attributes are those of `ComparisonContents`; `compare` makes it.
    """

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per method and measure.

        Raises:
            UnsupportedError: If pandas is not installed.
        """
        return table(self)

    def to_markdown(self) -> str:
        """Return scores, differences, ranks, verdicts and how they were made."""
        return markdown(self)

    def _repr_markdown_(self) -> str:
        """Show the tables where a notebook shows the value of a cell."""
        return self.to_markdown()

    def plot(self) -> Figure:
        """Draw the paired differences to the reference, one panel per judged measure.

        Returns:
            A matplotlib figure.

        Raises:
            UnsupportedError: If matplotlib is not installed.
        """
        return draw(self)
