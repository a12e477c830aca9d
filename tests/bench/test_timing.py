"""Rounds take turns, medians are medians, and threads are put back; no time is asserted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from maze_dla.bench import timing
from maze_dla.bench.timing import Measured, Method, in_turn, measure, seconds_of, threads

CPU = torch.device("cpu")


def methods(log: list[str], names: str = "abc") -> list[Method]:
    return [Method(name, lambda name=name: log.append(name)) for name in names]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the coming runs take."""
    coming: list[float] = []

    def ticks() -> Iterator[float]:
        now = 0.0
        while True:
            yield now
            now += coming.pop(0)
            yield now

    monkeypatch.setattr(timing.time, "perf_counter", ticks().__next__)
    return coming


def test_every_round_runs_all_methods_and_begins_with_another() -> None:
    log: list[str] = []
    calls = []
    measured = measure(methods(log), 4, CPU, done=lambda: calls.append(len(log)))
    assert "".join(log) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert [m.name for m in measured] == ["a", "b", "c"]
    assert [len(m.seconds) for m in measured] == [4, 4, 4]
    assert calls == list(range(1, 16))
    assert in_turn([], 3) == []


def test_seconds_are_those_of_the_timed_runs(clock: list[float]) -> None:
    clock += [9.0, 8.0]  # for memory
    for taken in ([1.0, 20.0], [30.0, 3.0], [2.0, 10.0]):  # a b, b a, a b
        clock += taken
    a, b = measure(methods([], "ab"), 3, CPU)
    assert a.seconds == (1.0, 3.0, 2.0)
    assert b.seconds == (20.0, 30.0, 10.0)
    assert (a.median, b.median) == (2.0, 20.0)


def test_what_takes_too_long_is_not_repeated(clock: list[float]) -> None:
    clock += [1.0, 7.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    log: list[str] = []
    calls = []
    a, b, c = measure(methods(log), 2, CPU, patience=5.0, done=lambda: calls.append(1))
    assert "".join(log) == "abc" + "ac" + "ca"
    assert (a.seconds, b.seconds, c.seconds) == ((2.0, 4.0), (7.0,), (2.0, 4.0))
    assert len(calls) == 3 * 3


def test_the_median_of_an_even_number_of_runs() -> None:
    assert Measured("a", (4.0, 1.0, 2.0, 100.0), None).median == 3.0


def test_a_run_is_timed_to_its_end(clock: list[float]) -> None:
    clock += [1.5]
    assert seconds_of(lambda: None, CPU) == 1.5


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1) as n:
        assert n == torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), threads(before + 1):
        raise KeyError
    assert torch.get_num_threads() == before
    with threads(None) as n:
        assert n == torch.get_num_threads() == before
