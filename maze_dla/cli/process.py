"""A process that belongs to the command: its signals before and after the command runs, and its three streams.

Signals are heard from the first of our lines on. This loads nothing that Python has not loaded by itself.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing's own name for it would have to be imported
    from typing import Any

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def take_over() -> None:
    """Prepare the process: a signal to stop ends it in one line, and none of its three streams is missing."""
    for number in STOPS:
        if is_default(number):  # not where whoever started the process has it ignored
            _set(number, leave_at_once)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _lead_nowhere(number, name)


def finish() -> None:
    """Nothing is left to be interrupted: SIGINT while Python cleans up would only print a traceback."""
    for number in STOPS:
        if signal.getsignal(number) is leave_at_once:
            _set(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


def is_default(number: int) -> bool:
    """Whether a signal does what it does in any Python process, or what `take_over` made of that."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, leave_at_once)


def leave_at_once(number: int, frame: Any) -> None:
    """End the process: as long as modules are imported there is nothing to tidy up, and an exception might get lost."""
    try:  # noqa: SIM105 (contextlib would have to be imported)
        os.write(2, b"maze-dla: interrupted, nothing was replaced\n")
    except OSError:
        pass
    os._exit(128 + number)


def _set(number: int, handler: Any) -> None:
    try:  # noqa: SIM105
        signal.signal(number, handler)
    except ValueError:  # outside of the main thread, where Python hears no signals
        pass


def _lead_nowhere(number: int, name: str) -> None:
    """Give a closed stream back its number, which the next file to be opened would get, with all that is printed."""
    mode = "r" if number == 0 else "w"
    stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115, PTH123 (open until the process ends)
    if stream.fileno() != number:
        os.dup2(stream.fileno(), number)
    setattr(sys, name, stream)
