"""What takes long to load, loaded in a thread while predictions go on without it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread
from typing import Generic, TypeVar

__all__ = ["Background"]

Loaded = TypeVar("Loaded")


class Background(Generic[Loaded]):
    """Loads something once, in a thread of its own.

    Args:
        load: Returns it, or None where it cannot be had.

    Attributes:
        found: What was loaded; None until then.
    """

    def __init__(self, load: Callable[[], Loaded | None]) -> None:
        self.found: Loaded | None = None
        self._load = load
        self._lock = Lock()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin, unless that has been done."""
        with self._lock:
            if self._thread is None:
                # The interpreter waits for it at exit: a compiler cannot be stopped halfway.
                self._thread = Thread(target=self._run, name="mcdrop-kernels")
                self._thread.start()

    def wait(self) -> None:
        """Return when it is there, or cannot be had."""
        self.start()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        self.found = self._load()
