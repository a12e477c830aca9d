"""The errors that maze_dla raises, under one base class, and checks of arguments that raise them."""

from __future__ import annotations

import operator
import os
import random
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, SupportsIndex, cast

SCREEN = 1000  # characters of a message


def visible(text: object) -> str:
    r"""The text on one line; whatever controls a terminal or a line is an escape: `\n`, `\x1b`, `\u202e`."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def shortened(text: object, longest: int = 200) -> str:
    """The text, the middle of a long one left out: `abc ... [10000 characters] ... xyz`."""
    shown = str(text)
    if len(shown) <= longest:
        return shown
    cut = f" ... [{len(shown)} characters] ... "
    kept = max(longest - len(cut), 2)
    return shown[: kept - kept // 3] + cut + shown[-(kept // 3) :]


class MazeDlaError(Exception):
    """Base class: the message says what was seen and what was expected, on one line, whatever a file's names hold.

    No longer than a screen: of a longer message the middle is left out.
    """

    def __str__(self) -> str:
        return shortened(visible(shortened(super().__str__(), SCREEN)), SCREEN)


class InputError(MazeDlaError, ValueError):
    """An argument that cannot be used: a shape, a range, a name."""


class CheckpointError(MazeDlaError, ValueError):
    """A model file that cannot be read as a model; the message names the file and the member."""


class DatasetError(MazeDlaError, ValueError):
    """A data set that cannot be read, or from which no prompts can be built."""


class PromptError(MazeDlaError, ValueError):
    """A prompt that the model cannot be asked; the message names the prompt and the token."""


class ModelError(MazeDlaError, ValueError):
    """A model whose residual stream is not a sum that can be attributed exactly."""


class ResultFileError(MazeDlaError, ValueError):
    """A saved result that cannot be read or written."""


class BaselineError(MazeDlaError, ValueError):
    """A baseline that cannot be read, written or checked."""


class CompletenessError(MazeDlaError, ArithmeticError):
    """Contributions that do not add up to what they are parts of; the message names the prompt and the gap."""


class MissingPackageError(MazeDlaError, ImportError):
    """A package that this needs and that is not installed; the message says how to install it."""


def optional_module(name: str, what: str, install: str) -> Any:
    """A module of a package that not everybody has; an import that draws leaves the global generator as it was.

    Raises:
        MissingPackageError: as "probes need scikit-learn, which is not installed: pip install 'maze_dla[probes]'".
    """
    if sys.modules.get(name) is not None:
        return sys.modules[name]
    before = random.getstate()
    try:
        return import_module(name)
    except ImportError as problem:
        raise MissingPackageError(f"{what}, which cannot be imported ({problem}): pip install {install}") from problem
    finally:
        random.setstate(before)


def is_panic(problem: BaseException) -> bool:
    """Whether it is a panic of a library in Rust, which is no `Exception`, and no interruption either."""
    return type(problem).__name__ == "PanicException"


def check_kind(value: object, kinds: Any, takes: str) -> None:
    """Refuse an argument of another kind; the message is what is taken, and what was given.

    Raises:
        InputError: as "compare takes results of attribute, got int".
    """
    if not isinstance(value, kinds):
        raise InputError(f"{takes}, got {'None' if value is None else type(value).__name__}")


def check_path(path: object, what: str) -> None:
    """Refuse anything but a path.

    Raises:
        InputError: as "a result's file is a path, got int".
    """
    check_kind(path, str | os.PathLike, f"{what} is a path")


def check_list(value: Any, what: str, each: str = "prompt") -> None:
    """Refuse what has no entries in an order of their own: no list, tuple or array, but a set, a mapping, one text.

    A table is none either: it has a length of rows, and who goes through it gets the names of its columns.

    Raises:
        InputError: as "texts are a list with an entry for each prompt, got 3".
    """
    try:
        unordered = isinstance(value, str | bytes | Mapping) or hasattr(value, "columns")
        listed = not unordered and hasattr(value, "__getitem__") and len(value) >= 0
    except (TypeError, RuntimeError):  # an array of no axes has no length, a nested tensor has no size
        listed = False
    if not listed:
        raise InputError(f"{what} are a list with an entry for each {each}, got {quoted(value, 60)}")


def whole_number(value: object) -> int | None:
    """A whole number from outside, numpy's as well, as Python's; None for anything else, true and false among it."""
    try:
        return None if isinstance(value, bool) else operator.index(cast("SupportsIndex", value))
    except TypeError:
        return None


def quoted(value: object, longest: int = 60) -> str:
    """The beginning of what Python calls a value, of whatever kind it is: integers of 5,000 digits have no repr."""
    try:
        return repr(value)[:longest]
    except Exception:  # of whatever kind, by a class of its own
        return shown_number(value) if isinstance(value, int) else f"something of {type(value).__name__}"


def shown_number(number: int) -> str:
    """A whole number for a message: its digits, or how large it is where Python refuses to write them."""
    return str(number) if number.bit_length() <= 256 else f"a number of {number.bit_length()} bits"


def check_whole(name: str, value: object, least: int, largest: float = float("inf")) -> int:
    """A whole number from outside, numpy's as well, within its bounds.

    Raises:
        InputError: it is none, or too small or large.
    """
    if (number := whole_number(value)) is None:
        raise InputError(f"{name} is a whole number, got {quoted(value, 80)}")
    if not least <= number <= largest:
        bound = f"at least {least}" if number < least else f"at most {largest}"
        raise InputError(f"{name} is {bound}, got {shown_number(number)}")
    return number
