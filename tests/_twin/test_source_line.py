"""Where in the user's code something happens."""

from __future__ import annotations

from mcdrop._twin.source_line import source_line


def test_the_line_is_that_of_the_innermost_code_of_the_user() -> None:
    assert source_line().startswith("test_source_line.py:")


def test_code_typed_into_a_session_has_lines_as_well() -> None:
    found: list[str] = []
    space = {"source_line": source_line, "found": found}
    typed = "found.append(source_line())\nfound.append(source_line())"
    exec(compile(typed, "<stdin>", "exec"), space)  # noqa: S102
    assert found == ["<stdin>:1", "<stdin>:2"]
