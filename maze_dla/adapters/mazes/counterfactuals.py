"""Counterfactuals of a maze: one thing changed in its text such that another next step is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from maze_dla.adapters.mazes.graph import MazeGraph
from maze_dla.adapters.mazes.lattice import (
    ADJLIST_END,
    ADJLIST_START,
    CONNECTOR,
    ORIGIN_END,
    ORIGIN_START,
    PATH_END,
    PATH_START,
    SEPARATOR,
    TARGET_END,
    TARGET_START,
    MazeText,
    cell_of,
    cell_token,
)
from maze_dla.errors import InputError, PromptError
from maze_dla.geometry import Cell, Passage

Change = Literal["target", "origin", "passage"]
CHANGES: tuple[Change, ...] = get_args(Change)
NOT_SHORTEST = "its path is not a shortest one"
NO_STEP = "the task asks for no step of its path"
NOTHING_ELSE = {
    "target": "no other goal behind the prompt's path needs another next step",
    "origin": "no other origin has another right answer",
    "passage": "no other passage in place of one leads to another next step",
}
AS_LONG = "with a path as long"
# tasks whose answer a change can never turn, and why
NEVER = {
    "path_start": "its answer is <PATH_START> in every maze",
    "path_end": "its answer is <PATH_END> in every maze",
    "every_path_step": "it asks for several tokens of each maze, and a pair has one of its own for each",
}
NEVER_FOR: dict[tuple[Change, str], str] = {
    ("target", "origin_after_path_start"): "its answer is the origin, which does not depend on the target",
    ("passage", "origin_after_path_start"): "its answer is the origin, which does not depend on passages",
    **{
        ("origin", task): "its prompts hold steps of the path, which fit the path from another origin only where that "
        "path joins them, and then the next step is the same"
        for task in ("final_before_path_end", "rand_path_token", "rand_path_token_non_endpoint")
    },
}


class NoCounterfactualError(Exception):
    """A maze without a counterfactual: the reason for which it is left out."""


@dataclass(frozen=True)
class Walk:
    """A maze with its path: the passages in the order and direction of the text, and the cells of the path."""

    listed: tuple[Passage, ...]
    path: tuple[Cell, ...]
    target: Cell

    @classmethod
    def of(cls, tokens: list[str], what: str) -> Walk:
        """That of a text.

        Raises:
            PromptError: a text that is written otherwise than passage by passage and path cell by cell.
        """
        try:
            text = MazeText(tuple(tokens))
            end, at = text.position(ADJLIST_END), text.position(TARGET_START)
            cells = [cell_of(token) for token in tokens[1:end:2]]
            walk = cls(tuple(zip(cells[::2], cells[1::2], strict=True)), text.path, cell_of(tokens[at + 1]))  # pyright: ignore
            known = walk.path and walk.target is not None and None not in cells
        except (PromptError, ValueError, IndexError):
            walk, known = None, False
        if walk is None or not known or walk.tokens() != tokens:
            raise PromptError(
                f"{what}: pairs need the text of a whole maze with one token for each cell, as `(0,1) <--> (0,2) ;` "
                "for each passage and then origin, target and path; this one is written otherwise"
            )
        return walk

    def tokens(self) -> list[str]:
        """The text."""
        tokens = [ADJLIST_START]
        for a, b in self.listed:
            tokens += [cell_token(a), CONNECTOR, cell_token(b), SEPARATOR]
        path = [cell_token(cell) for cell in self.path]
        tokens += [ADJLIST_END, ORIGIN_START, path[0], ORIGIN_END, TARGET_START, cell_token(self.target), TARGET_END]
        return [*tokens, PATH_START, *path, PATH_END]

    @cached_property
    def graph(self) -> MazeGraph:
        """The maze itself."""
        return MazeGraph(self.listed)


def counterfactual(walk: Walk, step: int, change: Change, matched: bool, rng: np.random.Generator) -> Walk:
    """The maze with one thing changed such that no right answer of before is right.

    Args:
        walk: the maze with its path.
        step: the number of path cells that the prompt holds; the cell after them is to be predicted.
        change: what is changed.
        matched: whether the path of the counterfactual has to be as long as that of the maze.
        rng: draws among those that there are, each as likely.

    Raises:
        NoCounterfactualError: there is none, with the reason.
    """
    if not 0 <= step < len(walk.path):
        raise NoCounterfactualError(NO_STEP)
    if len(walk.path) - 1 != walk.graph.steps_from(walk.path[0]).get(walk.target):
        raise NoCounterfactualError(NOT_SHORTEST)
    return MAKERS[change](walk, step, matched, rng)


def check_task(task: str, change: object) -> None:
    """Refuse a change that there is not, and a task whose answer it can never turn.

    Raises:
        InputError: with the reason.
    """
    if change not in CHANGES:
        raise InputError(f"change is one of {', '.join(map(repr, CHANGES))}, got {change!r:.80}")
    why = NEVER.get(task) or next((said for key, said in NEVER_FOR.items() if key == (change, task)), None)
    if why is not None:
        raise InputError(f"no pairs of task {task!r} with another {change}: {why}")


def _other_target(walk: Walk, step: int, matched: bool, rng: np.random.Generator) -> Walk:
    """Another goal: the path up to the read position is the beginning of a shortest path to it as well."""
    given, graph = walk.path[:step], walk.graph
    if step == 0:
        raise NoCounterfactualError(NOTHING_ELSE["target"])
    here, from_origin = graph.steps_from(given[-1]), graph.steps_from(given[0])
    beyond = {n: graph.steps_from(n) for n in graph.beside[given[-1]]}
    right = {cell: {n for n in beyond if beyond[n].get(cell) == here[cell] - 1} for cell in here}
    goals = [
        cell
        for cell in sorted(here)
        if cell not in given
        and from_origin[cell] == step - 1 + here[cell]
        and not right[cell] & right[walk.target]
        and not (matched and from_origin[cell] != len(walk.path) - 1)
    ]
    target = _drawn(goals, "target", matched, rng)
    rest = graph.shortest_path(given[-1], target, rng)
    return replace(walk, target=target, path=(*given[:-1], *rest))


def _other_origin(walk: Walk, step: int, matched: bool, rng: np.random.Generator) -> Walk:
    """Another origin, in its own place and at the start of the path."""
    graph, steps = walk.graph, walk.graph.steps_from(walk.target)
    if step > 1:
        raise NoCounterfactualError("the prompt's path does not fit the path from another origin")
    right = graph.next_cells(walk.path[0], steps)
    origins = [
        cell
        for cell in sorted(steps)
        if cell not in (walk.path[0], walk.target)
        and (step == 0 or not right & graph.next_cells(cell, steps))
        and not (matched and steps[cell] != len(walk.path) - 1)
    ]
    origin = _drawn(origins, "origin", matched, rng)
    return replace(walk, path=tuple(graph.shortest_path(origin, walk.target, rng)))


def _other_passage(walk: Walk, step: int, matched: bool, rng: np.random.Generator) -> Walk:
    """Another passage in the place of one: the same cells stay connected, trees stay trees and hallways hallways."""
    graph, given = walk.graph, walk.path[:step]
    if step == 0:
        raise NoCounterfactualError(NOTHING_ELSE["passage"])
    right = graph.next_cells(given[-1], graph.steps_from(walk.target))
    on_path = {(min(pair), max(pair)) for pair in pairwise(walk.path[step - 1 :])}
    # of a tree only what is on the path can turn it
    places = [i for i, (a, b) in enumerate(walk.listed) if not graph.is_forest or (min(a, b), max(a, b)) in on_path]
    walls = graph.walls()
    for number in rng.permutation(len(places) * len(walls)).tolist():
        place, added = places[number // len(walls)], walls[number % len(walls)]
        removed = (min(walk.listed[place]), max(walk.listed[place]))
        changed = graph.moved(removed, added)
        if _turns(changed, walk, given, right, matched) and changed.connects_as(graph):
            written = added if rng.random() < 0.5 else added[::-1]
            listed = (*walk.listed[:place], written, *walk.listed[place + 1 :])
            rest = changed.shortest_path(given[-1], walk.target, rng)
            return Walk(listed, (*given[:-1], *rest), walk.target)
    raise NoCounterfactualError(_nothing("passage", matched))


def _turns(changed: MazeGraph, walk: Walk, given: tuple[Cell, ...], right: set[Cell], matched: bool) -> bool:
    """Whether the path up to the read position still begins a shortest path, which goes on with another step."""
    steps = changed.steps_from(walk.target)
    if len(changed.passages) != len(walk.graph.passages) or given[-1] not in steps:
        return False
    down = all(b in changed.next_cells(a, steps) for a, b in pairwise(given))
    as_long = not matched or steps.get(given[0]) == len(walk.path) - 1
    return down and as_long and not changed.next_cells(given[-1], steps) & right


def _drawn(cells: list[Cell], change: Change, matched: bool, rng: np.random.Generator) -> Cell:
    if not cells:
        raise NoCounterfactualError(_nothing(change, matched))
    return cells[int(rng.integers(len(cells)))]


def _nothing(change: Change, matched: bool) -> str:
    return f"{NOTHING_ELSE[change]}{f', {AS_LONG}' if matched else ''}"


MAKERS: dict[Change, Callable[[Walk, int, bool, np.random.Generator], Walk]] = {
    "target": _other_target,
    "origin": _other_origin,
    "passage": _other_passage,
}
