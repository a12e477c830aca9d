"""Pairs of maze prompts: a maze, and the same maze in which one thing is changed and the right answer with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from maze_dla.adapters.mazes.counterfactuals import Change, NoCounterfactualError, Walk, check_task, counterfactual
from maze_dla.adapters.mazes.prompts import MazePromptBatch, Padding
from maze_dla.adapters.mazes.target_positions import find_targets
from maze_dla.adapters.mazes.tasks import Task, Tasks, find_tasks
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.engine.pairs import PromptPairs
from maze_dla.errors import InputError

Texts = list[list[str]]


def find_task_of_pairs(task: Tasks, change: object) -> tuple[str, Task]:
    """The one task of pairs.

    Raises:
        InputError: several tasks, an unknown one, an unknown change, or a task whose answer the change can never turn.
    """
    tasks = find_tasks(task)
    if len(tasks) > 1:
        raise InputError(f"pairs are of one task, got {', '.join(tasks)}")
    name, found = next(iter(tasks.items()))
    check_task(name, change)
    return name, found


def build_pairs(
    mazes: Sequence[list[str]],
    vocabulary: MazeVocabulary,
    task: tuple[str, Task],
    change: Change,
    matched: bool,
    *,
    grid_n: int,
    prepend_bos: bool,
    padding: Padding,
    seed: int,
    info: dict[str, Any],
) -> PromptPairs:
    """The pairs of those mazes in which something can be changed so; each maze draws from a generator of its own.

    Raises:
        InputError: no maze is left, with the reasons.
        PromptError: a text that is written in another form.
    """
    name, function = task
    clean, corrupted, positions, why = _changed(mazes, vocabulary, name, function, change, matched, seed)
    left_out = {"left_out": sum(why.values()), "why": dict(why)}
    if not clean:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in why.items())
        raise InputError(f"none of the {len(mazes)} mazes can be asked {name!r} with another {change} ({reasons})")

    def batch(texts: Texts, **more: Any) -> MazePromptBatch:
        return MazePromptBatch.build(
            texts,
            vocabulary,
            {name: _at(positions)},
            grid_n=grid_n,
            prepend_bos=prepend_bos,
            padding=padding,
            seed=seed,
            info={"task": name, **info, **more},
        )

    asked = {"change": change, "matched": matched, **left_out}
    return PromptPairs(batch(clean), batch(corrupted, mazes=f"{info['mazes']}, another {change}"), asked)


def _changed(
    mazes: Sequence[list[str]],
    vocabulary: MazeVocabulary,
    name: str,
    task: Task,
    change: Change,
    matched: bool,
    seed: int,
) -> tuple[Texts, Texts, list[int], Counter[str]]:
    """Texts and their counterfactuals, the position of the token to predict, and why others are left out."""
    found = find_targets(mazes, vocabulary, {name: task}, prepend_bos=False, seed=seed)
    if len(found.maze_of) > len(found.ids):
        raise InputError(f"task {name!r} asks for several tokens of a maze, pairs need one of each")
    asked = dict(zip(found.maze_of, zip(found.positions, found.steps, strict=True), strict=True))
    clean, corrupted, positions, why = [], [], [], Counter()
    for i, tokens in enumerate(mazes):
        position, step = asked[i]
        walk = Walk.of(list(tokens), f"maze {i}")
        try:
            other = counterfactual(walk, step, change, matched, np.random.default_rng([seed, i]))
        except NoCounterfactualError as reason:
            why[str(reason)] += 1
            continue
        clean.append(list(tokens))
        corrupted.append(other.tokens())
        positions.append(position)
    return clean, corrupted, positions, why


def _at(positions: Sequence[int]) -> Task:
    """The task that asks for these positions, one after the other."""
    remaining: Iterator[int] = iter(positions)
    return lambda tokens, rng: next(remaining)
