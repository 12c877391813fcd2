"""A progress bar on standard error, for those who ask for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcdrop.checks import require_installed

__all__ = ["ProgressBar", "progress_bar"]


class ProgressBar:
    """Counts units of work done; without a display it does nothing.

    Args:
        display: A running `rich.progress.Progress`, or None.
        label: What is being done.
        total: Units in all; None if unknown.
    """

    def __init__(self, display: Any, label: str, total: int | None) -> None:
        self._display = display
        self._total = total
        self._task = None if display is None else display.add_task(label, total=total)

    def advance(self, done: int) -> None:
        """Count further units as done."""
        if self._display is not None:
            self._display.advance(self._task, done)

    def expect_more(self, units: int) -> None:
        """Add units that turned out to be needed."""
        if self._display is not None and self._total is not None:
            self._total += units
            self._display.update(self._task, total=self._total)


@contextmanager
def progress_bar(
    function: str, label: str, total: int | None, *, show: bool
) -> Iterator[ProgressBar]:
    """Show how many units of work are done.

    Args:
        function: Public function to name in errors.
        label: What is being done.
        total: Units in all; None if unknown.
        show: False makes this free and silent.
    """
    if not show:
        yield ProgressBar(None, label, total)
        return
    require_installed(function, "rich", "report")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True)) as display:
        yield ProgressBar(display, label, total)
