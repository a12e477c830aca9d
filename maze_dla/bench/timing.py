"""Times of several ways to do the same, taken in turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

import torch

from maze_dla.bench.memory import peak_of


@dataclass(frozen=True)
class Way:
    """A name for the table, and what is timed."""

    name: str
    run: Callable[[], Any]


@dataclass(frozen=True)
class Measured:
    """The seconds of each timed run, and the peak of memory in bytes (None: not measured)."""

    name: str
    seconds: tuple[float, ...]
    peak: int | None

    @property
    def median(self) -> float:
        """The median of the runs, in seconds."""
        return median(self.seconds)


def measure(
    ways: Sequence[Way],
    rounds: int,
    device: torch.device,
    patience: float = inf,
    done: Callable[[], Any] = lambda: None,
) -> list[Measured]:
    """Run every way once for its memory, and then all of them in turns for their times.

    In every round another way comes first. The runs for memory also warm up, and are not timed, save that a way which
    takes longer than `patience` seconds is not repeated: that single run is its time.

    Args:
        ways: what is compared.
        rounds: how many timed runs each has.
        device: what the model is on.
        patience: in seconds.
        done: called after each run, as many times as `rounds + 1` for each way.
    """
    peaks: dict[str, int | None] = {}
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    repeated: list[Way] = []
    for way in ways:
        took: list[float] = []
        peaks[way.name] = peak_of(lambda: took.append(seconds_of(way.run, device)), device)  # noqa: B023 (called here)
        if took[0] > patience:
            seconds[way.name] = took
        else:
            repeated.append(way)
        for _ in range(1 if took[0] <= patience else rounds + 1):
            done()
    for number in range(rounds):
        gc.collect()
        for way in in_turn(repeated, number):
            seconds[way.name].append(seconds_of(way.run, device))
            done()
    return [Measured(way.name, tuple(seconds[way.name]), peaks[way.name]) for way in ways]


def in_turn(ways: Sequence[Way], number: int) -> list[Way]:
    """The order of a round: each begins with another way."""
    first = number % len(ways) if ways else 0
    return [*ways[first:], *ways[:first]]


def seconds_of(run: Callable[[], Any], device: torch.device) -> float:
    """How long a run takes, until the device is done with it."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def threads(n: int | None) -> Iterator[int]:
    """So many threads for torch (None: as many as it has), and as before when it is over."""
    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
