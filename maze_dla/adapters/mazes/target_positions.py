"""The tokens of mazes that tasks ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maze_dla.adapters.mazes.lattice import ADJLIST_START, PATH_START, MazeText
from maze_dla.adapters.mazes.tasks import Task
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.errors import InputError, PromptError, whole_number


@dataclass
class TargetPositions:
    """For each prompt its maze, its task, the position of the token to predict and its step on the path.

    `ids` and `labels` hold the text of every maze that has any, the extra BOS included; positions count it.
    """

    ids: list[list[int]] = field(default_factory=list)
    labels: list[tuple[str, ...]] = field(default_factory=list)
    maze_of: list[int] = field(default_factory=list)
    task_of: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)


def find_targets(
    mazes: Sequence[list[str]], vocabulary: MazeVocabulary, tasks: Mapping[str, Task], *, prepend_bos: bool, seed: int
) -> TargetPositions:
    """The targets in the order of the mazes, those of one maze in the order of the tasks.

    Every task has a generator of its own, so that it chooses the same tokens alone and beside others.

    Raises:
        InputError: a task that returns no position.
        PromptError: a maze without `<PATH_START>`, a token outside the vocabulary, a task that points outside.
    """
    generators = [np.random.default_rng(seed) for _ in tasks]
    bos = [ADJLIST_START] if prepend_bos else []
    found = TargetPositions()
    for i, tokens in enumerate(mazes):
        one_each = len(tasks) == 1 and len(found.positions) == i
        what = f"prompt {i}" if one_each else f"maze {i}"
        if bos and tokens[:2] == 2 * bos and tokens.count(ADJLIST_START) == 2:
            raise PromptError(f"{what} begins with the extra BOS already: leave it out, or pass prepend_bos=False")
        before = len(found.positions)
        for number, (task, rng) in enumerate(zip(tasks.values(), generators, strict=True)):
            positions = _positions_of(what, tokens, task, rng)
            found.task_of += [number] * len(positions)
            found.positions += [len(bos) + position for position in positions]
        if n_new := len(found.positions) - before:
            found.maze_of += [len(found.ids)] * n_new
            found.ids.append(vocabulary.encode([*bos, *tokens], what, mazes))
            found.labels.append((*bos, *tokens))
            origin = _path_start(what, tokens) + 1 + len(bos)
            found.steps += [position - origin for position in found.positions[before:]]
    return found


def _positions_of(what: str, tokens: list[str], task: Task, rng: np.random.Generator) -> list[int]:
    try:
        returned: Any = task(list(tokens), rng)
    except PromptError as problem:
        raise PromptError(f"{what}: {problem}") from problem
    except (ValueError, LookupError, TypeError) as problem:  # a task of the user's own
        raise PromptError(f"{what}: the task failed ({type(problem).__name__}: {problem})") from problem
    for position in (positions := _as_list(returned)):
        if whole_number(position) is None:
            raise InputError(
                f"a task returns the position of the token to predict, got {position!r}; several come as a list"
            )
        if not 1 <= position < len(tokens):
            raise PromptError(f"{what}: the task asks for token {position}, the maze's text has {len(tokens)}")
    return [int(position) for position in positions]


def _as_list(returned: Any) -> list[Any]:
    if isinstance(returned, np.ndarray) and returned.ndim == 1:
        return list(returned)
    return list(returned) if isinstance(returned, Sequence) and not isinstance(returned, str) else [returned]


def _path_start(what: str, tokens: list[str]) -> int:
    try:
        return MazeText(tuple(tokens)).position(PATH_START)
    except PromptError as problem:
        raise PromptError(f"{what}: {problem}") from problem
