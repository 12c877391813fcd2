"""Where in the user's code something happens."""

from __future__ import annotations

from mcdrop._twin.source_line import source_line


def test_the_line_is_that_of_the_innermost_code_of_the_user() -> None:
    assert source_line().startswith("test_source_line.py:")
