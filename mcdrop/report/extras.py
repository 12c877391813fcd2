"""Packages that only pages and figures need, and the error where one is missing."""

from __future__ import annotations

from importlib import import_module

from mcdrop.errors import UnsupportedError

__all__ = ["require_extra"]


def require_extra(function: str, *modules: str) -> None:
    """Refuse to go on where a module of the `report` extra cannot be imported."""
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            raise UnsupportedError.of(
                function,
                module,
                "be installed",
                "no such module",
                'Install it: pip install "mcdrop[report]"',
            ) from error
