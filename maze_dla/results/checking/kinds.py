"""The kinds of values in a saved result's fields that are no arrays: text, numbers, tuples and mappings of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from maze_dla.errors import shortened
from maze_dla.results.arrays import LARGEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= LARGEST


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (type(value) is float and not math.isinf(value))


def _are(each: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(each, value))


def _maps(key: Callable[[Any], bool], each: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(key, value)) and all(map(each, value.values()))


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {  # by annotation, which is kept as text
    "str": (_is_text, "text"),
    "int": (_is_whole, "a whole number"),
    "float": (_is_number, "a number"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "tuple[str, ...]": (_are(_is_text), "a list of texts"),
    "tuple[int, ...]": (_are(_is_whole), "a list of whole numbers"),
    "tuple[tuple[str, ...], ...]": (_are(_are(_is_text)), "lists of texts"),
    "Mapping[str, Any]": (_maps(_is_text, lambda value: True), "names with values"),
    "Mapping[int, str]": (_maps(_is_whole, _is_text), "whole numbers with texts"),
    "Mapping[str, tuple[str, ...]]": (_maps(_is_text, _are(_is_text)), "names with lists of texts"),
}


def check_kinds(result: Any) -> None:
    """Refuse fields of another kind than their annotations say.

    Raises:
        ValueError: naming the field.
    """
    for f in fields(result):
        value, declared = getattr(result, f.name), str(f.type)
        if declared.removesuffix(" | None") not in KINDS or (value is None and declared.endswith(" | None")):
            continue
        fits, expected = KINDS[declared.removesuffix(" | None")]
        if not fits(value):
            raise ValueError(f"{f.name}: {shortened(repr(value), 120)}, expected {expected}")
