"""The whole benchmark on shapes that take milliseconds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.tiny import TINY
from maze_dla.bench import run as running
from maze_dla.bench.run import MODELS, run_bench
from maze_dla.bench.startup import startup_seconds
from maze_dla.errors import InputError, MazeDlaError


def bench(*shapes: str, sizes: Any = (2,), **options: Any) -> running.BenchReport:
    return run_bench(shapes, sizes, rounds=1, known=TINY, startup=False, **options)


def test_every_case_is_measured() -> None:
    report = bench("maze", "gpt2", sizes=(5, 3, 5))
    assert [(t.case.shape, t.case.n) for t in report.tables] == [
        ("tiny maze shape", 3),
        ("tiny maze shape", 5),
        ("tiny maze shape", 3),  # all tasks
        ("tiny gpt2 shape", 3),
        ("tiny gpt2 shape", 5),
    ]
    for table in report.tables:
        assert [row.name for row in table.rows] == [method.name for method in table.case.methods]
        assert all(len(row.seconds) == 1 and row.median > 0 for row in table.rows)
    assert list(report.facts) == ["versions", "ran on", "tiny maze shape", "tiny gpt2 shape"]
    assert f"torch {torch.__version__.split('+')[0]}" in report.facts["versions"]
    assert report.rounds == 1
    assert report.startup is None


@pytest.mark.parametrize("method", ["tutorial", "tutorial_with_pos_slice"])
def test_methods_that_differ_are_not_timed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, method, lambda model, batch: running.ours(model, batch.select([2, 1, 0])))
    with pytest.raises(MazeDlaError, match="the tutorial's layers and maze_dla's differ by"):
        bench("gpt2")


def test_threads_and_gradients_are_left_as_they_were() -> None:
    before = torch.get_num_threads()
    state = torch.get_rng_state()
    report = bench("gpt2", n_threads=1)
    assert "torch with 1 of " in report.facts["ran on"]
    assert torch.get_num_threads() == before
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"shapes": ["mase"]}, "unknown shape 'mase', expected one of maze, gpt2, all"),
    "no prompts": ({"sizes": [5, 0]}, "a number of prompts is at least 1, got 0"),
    "no sizes": ({"sizes": []}, "a number of prompts is at least 1, got none"),
    "rounds": ({"rounds": 0}, "rounds is at least 1, got 0"),
    "threads": ({"n_threads": 0}, r"threads is between 1 and this computer's \d+, got 0"),
    "too many threads": ({"n_threads": 10**9}, "got 1000000000"),
    "device": ({"device": "abacus"}, "device 'abacus' cannot be used here"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name: str) -> None:
    options, message = BAD[name]
    before = torch.get_num_threads()
    with pytest.raises(InputError, match=message):
        run_bench(**{"shapes": ["maze"], "known": TINY, "startup": False, **options})
    assert torch.get_num_threads() == before


def test_every_shape_has_a_default_size() -> None:
    assert running.DEFAULT_SIZES.keys() == MODELS.keys() == TINY.keys()


def test_start_up_is_that_of_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maze_dla.bench.startup.RUNS", 1)
    started = startup_seconds()
    assert started is not None
    assert started[1] > 0
    monkeypatch.setattr("maze_dla.bench.startup.HELP", ("-c", "raise SystemExit(3)"))
    assert startup_seconds() is None
