"""The tasks: which token of a maze's text is to be predicted.

A task is a function of the tokens and a random generator that returns the position of the token to predict, or
several positions; a prompt is everything in front of one. The first seven named tasks are those of maze-transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from maze_dla.adapters.mazes.lattice import PATH_END, PATH_START, MazeText
from maze_dla.errors import InputError

Task = Callable[[list[str], np.random.Generator], int | Sequence[int]]
Tasks = str | Task | Sequence[str | Task]


def _after_path_start(offset: int) -> Task:
    def task(tokens: list[str], rng: np.random.Generator) -> int:
        return MazeText(tuple(tokens)).position(PATH_START) + offset

    return task


def _before_path_end(offset: int) -> Task:
    def task(tokens: list[str], rng: np.random.Generator) -> int:
        return MazeText(tuple(tokens)).position(PATH_END) - offset

    return task


def _random_on_path(first: int, last: int) -> Task:
    """From `first` after `<PATH_START>` to `last` in front of `<PATH_END>`.

    Where the path is too short for that it is the token `first` after `<PATH_START>`, as in maze-transformer, and
    `<PATH_END>` at the latest.
    """

    def task(tokens: list[str], rng: np.random.Generator) -> int:
        text = MazeText(tuple(tokens))
        end = text.position(PATH_END)
        start = min(text.position(PATH_START) + first, end)
        stop = end - last
        return start + int(rng.random() * max(stop - start + 1, 1))

    return task


def _every_path_step(tokens: list[str], rng: np.random.Generator) -> Sequence[int]:
    """All that follows `<PATH_START>`: the origin, every step, and `<PATH_END>`."""
    text = MazeText(tuple(tokens))
    return range(text.position(PATH_START) + 1, text.position(PATH_END) + 1)


# that ask for one token of each maze, so that their prompts are independent of each other: those that are timed
# together and whose accuracy training reports
ONE_PER_MAZE: dict[str, Task] = {
    "path_start": _after_path_start(0),
    "origin_after_path_start": _after_path_start(1),
    "first_path_choice": _after_path_start(2),
    "path_end": _before_path_end(0),
    "final_before_path_end": _before_path_end(1),
    "rand_path_token": _random_on_path(1, 2),
    "rand_path_token_non_endpoint": _random_on_path(3, 3),
}
TASKS: dict[str, Task] = {**ONE_PER_MAZE, "every_path_step": _every_path_step}


def find_task(task: str | Task) -> tuple[str, Task]:
    """A task by its name, or a function of the user's own, with the name it goes by.

    Raises:
        InputError: no task of that name.
    """
    if callable(task):
        return getattr(task, "__name__", "own task"), task
    if not isinstance(task, str) or task not in TASKS:
        raise InputError(f"unknown task {task!r}, expected one of {', '.join(TASKS)}, or a function")
    return task, TASKS[task]


def find_tasks(tasks: Tasks) -> dict[str, Task]:
    """One task or several of them, by the names that they go by.

    Raises:
        InputError: no task at all, one that is unknown, or two of one name.
    """
    if isinstance(tasks, str) or callable(tasks) or not isinstance(tasks, Iterable):
        tasks = [tasks]
    named = [find_task(task) for task in tasks]
    if not named:
        raise InputError(f"no task, expected at least one of {', '.join(TASKS)}, or a function")
    names = [name for name, _ in named]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two tasks go by the name {twice!r}, expected each once")
    return dict(named)
