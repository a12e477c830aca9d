"""Type hints of every public name, and of its methods, name things that are there."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pandas as pd
import pytest

import maze_dla as dla


def annotated(thing: Any) -> list[Any]:
    """A function, or a class with its own methods and properties."""
    if not inspect.isclass(thing):
        return [thing] if callable(thing) else []
    inner = ("fget", "func", "__func__")
    parts = [
        next((f for n in inner if (f := getattr(p, n, None))), p)
        for name, p in vars(thing).items()
        if name != "__init__"
    ]  # a dataclass makes its own
    return [thing, *(p for p in parts if inspect.isfunction(p) and p.__module__.startswith("maze_dla"))]


@pytest.mark.parametrize("name", dla.__all__)
def test_hints_resolve(name: str) -> None:
    for part in annotated(getattr(dla, name)):
        typing.get_type_hints(part, localns={"pd": pd})  # pandas is loaded when a table is asked for
