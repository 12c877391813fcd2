"""Nested tuples, lists and dicts with tensors in them, as models take and return them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

__all__ = ["leaves", "mapped", "tensors"]


def leaves(value: Any) -> Iterator[Any]:
    """Yield what lies inside tuples, lists and mappings, at any depth."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    else:
        yield value


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors among the leaves."""
    return (leaf for leaf in leaves(value) if isinstance(leaf, Tensor))


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return tuples, lists and dicts with `change` applied to the tensors in them."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(item, change) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(mapped(item, change) for item in value)
    return value
