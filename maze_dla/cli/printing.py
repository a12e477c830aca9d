"""All that the command line prints goes through here."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from maze_dla.errors import InputError, shortened, visible

SCREEN = 2000  # characters


def say(*lines: object) -> None:
    """Print lines; none of them can control the terminal or become two, whatever it holds and wherever it goes.

    Raises:
        InputError: standard output cannot be written, a full disk for one; nothing more is printed then.
        BrokenPipeError: whoever read it has gone.
    """
    try:
        for line in lines:
            _print(line, sys.stdout)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as problem:  # a ValueError where it is closed
        print_no_more()
        reason = getattr(problem, "strerror", None) or problem
        raise InputError(f"standard output cannot be written ({reason})") from problem


def complain(line: object) -> None:
    """Print a line to standard error, where there is one; of a line longer than a screen the ends."""
    with suppress(OSError, ValueError):
        _print(on_a_screen(line), sys.stderr)


def on_a_screen(line: object) -> str:
    """The line as it is printed; one longer than a screen without its middle."""
    return shortened(visible(line), SCREEN)


def print_no_more() -> None:
    """Let standard output lead nowhere: what is left in its buffer would be tried again when the process ends."""
    if sys.stdout is not sys.__stdout__:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (closed when the process ends)
        return
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def visible_warnings() -> Iterator[None]:
    """Warnings as lines of the same kind, for a while."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *about: f"maze-dla: warning: {on_a_screen(message)}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def _print(line: object, stream: TextIO | None) -> None:
    if stream is None:  # closed before the process began
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(visible(line).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
