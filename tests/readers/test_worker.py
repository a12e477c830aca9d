"""The worker notices what it is there for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maze_dla.errors import CheckpointError

from . import worker as workers
from .worker import Worker


def odd(path: Path) -> str:
    """A reader that does to the process what the file's name says."""
    if path.name == "typed":
        raise CheckpointError("seen and expected")
    if path.name == "raw":
        raise IndexError("list index out of range")
    if path.name == "greedy":
        return str(len(bytearray(300 * 2**20)))
    if path.name == "too greedy":
        return str(len(bytearray(2**34)))
    if path.name == "ends":
        os._exit(7)
    while path.name == "endless":
        pass
    return path.name


@pytest.fixture(scope="module")
def worker():
    with Worker(f"{__name__}:odd") as running:
        yield running


def test_content_and_typed_errors_are_good(worker: Worker) -> None:
    assert worker.read(Path("fine")).is_good({"fine"})
    assert not worker.read(Path("fine")).is_good({"another"})
    assert worker.read(Path("typed")).is_good()


@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [("raw", "error", "IndexError"), ("greedy", "content", ""), ("too greedy", "error", "MemoryError")],
)
def test_what_is_not_good(worker: Worker, name: str, kind: str, error: str) -> None:
    outcome = worker.read(Path(name))
    assert (outcome.kind, outcome.error) == (kind, error)
    assert not outcome.is_good({outcome.said}), outcome
    assert worker.read(Path("fine")).is_good({"fine"})  # it goes on


def test_one_that_dies_and_one_that_never_returns(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker.read(Path("ends")).kind == "died"
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    assert worker.read(Path("endless")).kind == "late"
    monkeypatch.undo()
    assert worker.read(Path("fine")).is_good({"fine"})
