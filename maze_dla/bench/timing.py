"""Times of several methods that do the same, taken in turns."""

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
class Method:
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
    methods: Sequence[Method],
    rounds: int,
    device: torch.device,
    patience: float = inf,
    done: Callable[[], Any] = lambda: None,
) -> list[Measured]:
    """Run every method once for its memory, and then all of them in turns for their times.

    In every round another method comes first. The runs for memory also warm up, and are not timed, save that a method
    which takes longer than `patience` seconds is not repeated: that single run is its time.

    Args:
        methods: what is compared.
        rounds: how many timed runs each has.
        device: what the model is on.
        patience: in seconds.
        done: called after each run, as many times as `rounds + 1` for each method.
    """
    peaks: dict[str, int | None] = {}
    seconds: dict[str, list[float]] = {method.name: [] for method in methods}
    repeated: list[Method] = []
    for method in methods:
        took: list[float] = []
        peaks[method.name] = peak_of(lambda: took.append(seconds_of(method.run, device)), device)  # noqa: B023 (called here)
        if took[0] > patience:
            seconds[method.name] = took
        else:
            repeated.append(method)
        for _ in range(1 if took[0] <= patience else rounds + 1):
            done()
    for number in range(rounds):
        gc.collect()
        for method in in_turn(repeated, number):
            seconds[method.name].append(seconds_of(method.run, device))
            done()
    return [Measured(method.name, tuple(seconds[method.name]), peaks[method.name]) for method in methods]


def in_turn(methods: Sequence[Method], number: int) -> list[Method]:
    """The order of a round: each begins with another method."""
    first = number % len(methods) if methods else 0
    return [*methods[first:], *methods[:first]]


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
