"""One process that reads damaged files for the tests: with a limit of memory, and ended when it does not come back.

A reader is a function by its name, "package.module:function". It takes a path and returns a text that is the same for
the same content. Give each reader one worker, and it as many files as you like:

    with Worker("tests.readers.containers:results") as worker:
        outcome = worker.read(file)
    assert outcome.is_good(allowed={digest_of_the_file_as_it_was}), outcome
"""

from __future__ import annotations

import importlib
import multiprocessing
import resource
import time
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

SECONDS, MIB = 2.0, 200.0  # what reading one file may take, in processor time and memory
PATIENCE = 30.0  # seconds on the clock before the worker is ended: other work may hold the processor
ROOM = 1024  # MiB that the worker may take beside what it has at the start
LONGEST_MESSAGE = 2000


@dataclass(frozen=True)
class Outcome:
    """How reading one file ended."""

    kind: str  # "content", "error", "died" or "late"
    said: str = ""  # the digest of the content, or the message
    error: str = ""  # the class of the error
    typed: bool = False  # whether it is one of maze_dla's
    seconds: float = 0.0  # of processor time
    mib: float = 0.0  # the highest memory above that at the start

    def is_good(self, allowed: Set[str] = frozenset()) -> bool:
        """Whether it is a typed error of one line, or one of the contents allowed, within the limits."""
        cheap = self.seconds <= SECONDS and self.mib <= MIB
        if self.kind == "content":
            return cheap and self.said in allowed
        short = len(self.said) <= LONGEST_MESSAGE and "\n" not in self.said
        return cheap and self.kind == "error" and self.typed and short


class Worker:
    """A process that runs a reader; started anew whenever it died or was ended."""

    def __init__(self, reader: str) -> None:
        self._reader = reader
        self._process: Any = None
        self._pipe: Any = None

    def __enter__(self) -> Worker:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end()

    def read(self, path: Path) -> Outcome:
        """What becomes of reading this file."""
        self._pipe.send(str(path))
        try:
            if self._pipe.poll(PATIENCE):
                return self._pipe.recv()
            outcome = Outcome("late", f"no answer within {PATIENCE:.0f} seconds")
        except (EOFError, OSError):
            self._process.join(1)
            outcome = Outcome("died", f"the process ended with {self._process.exitcode}")
        self._end()
        self._start()
        return outcome

    def _start(self) -> None:
        # a fresh interpreter, so that nothing of the tests' own process counts or is changed
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=serve, args=(self._reader, far_end), daemon=True)
        self._process.start()
        far_end.close()
        if not self._pipe.poll(120) or (said := self._pipe.recv()) != "ready":
            raise RuntimeError(f"the reader {self._reader} did not start")
        del said

    def _end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def serve(reader: str, pipe: Any) -> None:
    """The worker's side: read the files whose paths come through the pipe."""
    import torch

    from maze_dla.errors import MazeDlaError

    torch.set_num_threads(1)
    module, _, name = reader.partition(":")
    read = getattr(importlib.import_module(module), name)
    room = (_memory("VmSize") + ROOM) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (int(room), int(room)))
    pipe.send("ready")
    while True:
        path = pipe.recv()
        _forget_peak()
        before, start = _memory("VmRSS"), time.process_time()
        try:
            ended: dict[str, Any] = {"kind": "content", "said": str(read(Path(path)))}
        except Exception as problem:
            typed = isinstance(problem, MazeDlaError)
            ended = {"kind": "error", "said": str(problem), "error": type(problem).__name__, "typed": typed}
        pipe.send(Outcome(**ended, seconds=time.process_time() - start, mib=_memory("VmHWM") - before))


def _memory(name: str) -> float:
    """A line of this process's status, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def _forget_peak() -> None:
    """Let the peak of memory begin at what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
