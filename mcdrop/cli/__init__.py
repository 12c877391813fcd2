"""The command line: `mcdrop predict`, `report`, `inspect` and `completion`."""

from __future__ import annotations

import errno
import sys

from mcdrop.errors import McdropError

__all__ = ["main"]

_NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command line; an expected error is one line on standard error, and exit code 2."""
    try:
        from mcdrop.cli.commands import app
        from mcdrop.cli.wording import command_of, in_words_of, options_of
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in _NEEDED:
            raise
        sys.stderr.write(
            f"error: the command line needs {missing}, which is not installed: "
            'pip install "mcdrop[report]".\n'
        )
        sys.exit(2)
    try:
        app()
    except McdropError as error:
        text, command = str(error), command_of(app, sys.argv[1:])
        if command is not None:
            text = in_words_of(command.__name__, options_of(command), text)
        sys.stderr.write(f"error: {text}\n")
        sys.exit(2)
    except OSError as error:
        name = "" if error.filename is None else f"{error.filename}: "
        remedy = "Make room and run again" if error.errno == errno.ENOSPC else "Check the path"
        sys.stderr.write(f"error: {name}{error.strerror or error}. {remedy}.\n")
        sys.exit(2)
