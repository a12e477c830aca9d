"""Signals to stop a command."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maze_dla.cli.process import STOPS, is_default

TIDYING = 2.0  # seconds after a signal in which further ones are not heard: they would cut the tidying up short
IMPORTING = 5.0  # seconds for which a signal waits for an import to end
AGAIN = 0.02


class Stopped(KeyboardInterrupt):
    """A signal to end, as an exception: what was begun is tidied up on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


class Stopping:
    """Raises `Stopped` when a signal is heard, and knows that it did, whatever becomes of the exception.

    A module whose import is interrupted stays half made, and some swallow the exception or turn it into one of theirs:
    while something is imported, a signal waits.
    """

    def __init__(self) -> None:
        self.stopped: Stopped | None = None
        self._raised = self._first = float("-inf")

    def __call__(self, number: int, frame: Any) -> None:
        """Hear a signal."""
        now = time.monotonic()
        if now < self._raised + TIDYING:
            return
        if self._first == float("-inf"):
            self._first = now
        if now < self._first + IMPORTING and _imports(frame):
            _thread.start_new_thread(_send_again, (number,))
            return
        self._raised = now
        self.stopped = Stopped(number)
        raise self.stopped


def _imports(frame: Any) -> bool:
    """Whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    """To the main thread, which may by then wait for something: only a real signal ends that."""
    time.sleep(AGAIN)
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:  # Windows
        _thread.interrupt_main(signal.Signals(number))


@contextmanager
def signals_as_errors() -> Iterator[Stopping]:
    """Signals that would end the process at once raise `Stopped` instead.

    Outside of the main thread, where Python hears no signals, nothing is changed.
    """
    hear = Stopping()
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOPS if in_main and is_default(number)}
    for number in before:
        signal.signal(number, hear)
    try:
        yield hear
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def files_at(out: str | Path | None) -> dict[str, tuple[int, int]]:
    """Which files stand where a command writes, each with its number and time of change, without hidden ones."""
    place = Path(out) if out is not None else None
    if place is None or not place.exists():
        return {}
    files = [f for f in place.iterdir() if not f.name.startswith(".")] if place.is_dir() else [place]
    return {f.name: (f.lstat().st_ino, f.lstat().st_mtime_ns) for f in files}
