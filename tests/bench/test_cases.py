"""Which methods are compared for each number of prompts; nothing is timed here."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from bench.tiny import TINY
from maze_dla.bench.cases import Case, cases_of
from maze_dla.bench.methods import can_project_neurons
from maze_dla.bench.models import random_model

TUTORIAL = ["tutorial way", "tutorial way, with pos_slice"]
OURS = ["maze_dla", 'maze_dla, forward="hooked"', "maze_dla, with sources"]
PROJECTED = ["tutorial way, with pos_slice and project_output_onto"] if can_project_neurons() else []


@cache
def model_of(shape: str) -> Any:
    return random_model(TINY[shape])


def cases(shape: str, *sizes: int) -> list[Case]:
    return cases_of(model_of(shape), TINY[shape], sizes, with_tasks=shape == "maze")


def names(case: Case) -> list[str]:
    return [method.name for method in case.methods]


def test_all_methods_of_both_shapes() -> None:
    prompts, tasks = cases("maze", 20)
    (gpt2,) = cases("gpt2", 20)
    assert names(prompts) == ["plain forward, 20 at once", "plain forward, 16 at once", *TUTORIAL, *OURS]
    assert names(tasks) == [
        "plain forward, 20 at once",
        "tutorial way, with pos_slice, once for each task",
        "maze_dla, all tasks in one pass",
    ]
    assert names(gpt2) == [*names(prompts)[:4], *PROJECTED, *OURS]
    assert prompts.title == "tiny maze shape: 20 prompts of 9 to 31 tokens"
    assert tasks.title == "tiny maze shape: all seven tasks on the same 20 mazes (140 prompts)"
    assert gpt2.title == "tiny gpt2 shape: 20 prompts of 16 tokens"


def test_the_plain_forward_pass_runs_few_prompts_at_once_and_never_more_than_100() -> None:
    assert names(cases("gpt2", 3)[0])[:3] == ["plain forward, 3 at once", *TUTORIAL]
    assert names(cases("gpt2", 101)[0])[0] == "plain forward, 100 at once"


def test_large_sizes_run_what_grows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maze_dla.bench.cases.ALL_METHODS_UP_TO", 10)
    (large,) = cases("gpt2", 20)
    assert names(large) == ["plain forward, 20 at once", *TUTORIAL, *PROJECTED, "maze_dla"]


def test_where_the_tutorial_does_not_fit_it_runs_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maze_dla.bench.cases.prompts_that_fit", lambda model, shape: 4)
    part, whole, tasks = cases("maze", 6)
    assert (part.n, whole.n, tasks.n) == (4, 6, 6)
    assert "tutorial way" in names(part)
    note = "The tutorial way is not run on 6 prompts: the memory that is free holds about 4 of them."
    for case in (whole, tasks):
        assert not any(name.startswith("tutorial") for name in names(case))
        assert note in case.notes
    assert note not in part.notes
    assert [case.n for case in cases("maze", 3, 6)] == [3, 6, 3]  # a size that fits is part enough
    monkeypatch.setattr("maze_dla.bench.cases.prompts_that_fit", lambda model, shape: 0)
    assert [case.n for case in cases("gpt2", 6)] == [6]
