"""Loading in the background: once, and nothing waits for it."""

from __future__ import annotations

import threading

from mcdrop._masks.background import Background


def test_nothing_is_found_until_it_is_loaded_once() -> None:
    release, calls = threading.Event(), []

    def load() -> str:
        release.wait()
        calls.append(1)
        return "kernels"

    background = Background(load)
    background.start()
    background.start()
    found = [background.found]
    release.set()
    background.wait()
    background.wait()
    found.append(background.found)
    assert found == [None, "kernels"]
    assert len(calls) == 1


def test_what_cannot_be_had_is_none() -> None:
    background: Background[str] = Background(lambda: None)
    background.wait()
    assert background.found is None
