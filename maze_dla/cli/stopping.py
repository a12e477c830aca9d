"""Signals to stop a command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Stopped(KeyboardInterrupt):
    """A signal to end, as an exception: what was begun is tidied up on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def signals_as_errors() -> Iterator[None]:
    """Signals that would end the process at once raise `Stopped` instead, the first of them.

    Outside of the main thread, where Python hears no signals, nothing is changed.
    """

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would cut the tidying up short
        raise Stopped(number)

    heard = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        heard = []
    changed = [number for number in heard if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def files_at(out: str | None) -> dict[str, tuple[int, int]]:
    """Which files stand where a command writes, each with its number and time of change, without hidden ones."""
    place = Path(out) if out is not None else None
    if place is None or not place.exists():
        return {}
    files = [f for f in place.iterdir() if not f.name.startswith(".")] if place.is_dir() else [place]
    return {f.name: (f.lstat().st_ino, f.lstat().st_mtime_ns) for f in files}
