"""Where in the user's code something happens."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import torch

__all__ = ["source_line"]

_NOT_THE_USERS = (
    f"{Path(inspect.getfile(torch)).parent}{os.sep}",
    f"{Path(__file__).parents[1]}{os.sep}",
    "<frozen ",
)


def source_line() -> str:
    """Return file and line of the innermost code that belongs neither to torch nor to mcdrop."""
    frame = inspect.currentframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_NOT_THE_USERS):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
