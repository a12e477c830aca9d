"""Classes of prompts about mazes: which way the first step goes, how far the target is, whether a passage is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from maze_dla.adapters.mazes.lattice import cell_token
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.engine.classes import PromptClasses
from maze_dla.errors import InputError, check_kind, whole_number
from maze_dla.geometry import Cell, Passage

WAYS = {(-1, 0): "up", (1, 0): "down", (0, -1): "left", (0, 1): "right"}  # row 0 is at the top
READY = ("first_direction", "distance", "passage")


def maze_classes(batch: MazePromptBatch, by: str, passage: Any = None, *, balance: bool = True) -> PromptClasses:
    """The prompts of a batch in classes, as `MazeModel.classes`.

    Raises:
        InputError: no batch of mazes, an unknown question or column, a passage where none is asked for or the other
            way round, or a class without prompts.
    """
    check_kind(batch, MazePromptBatch, "batch is that of maze.prompts()")
    check_kind(balance, bool, "balance is True or False")
    if not isinstance(by, str) or by not in (*READY, *batch.columns):
        known = ", ".join((*READY, *batch.columns))
        raise InputError(f"classes are by {known}, got {by!r:.60}")
    if (passage is not None) != (by == "passage"):
        raise InputError("passage=((row, column), (row, column)) goes with 'passage', and with nothing else")
    made: dict[str, Callable[[], PromptClasses]] = {
        "first_direction": lambda: _first_direction(batch),
        "distance": lambda: _distance(batch),
        "passage": lambda: _passage(batch, passage),
    }
    found = made[by]() if by in made else PromptClasses.of(batch, by)
    return found.balanced() if balance else found


def _first_direction(batch: MazePromptBatch) -> PromptClasses:
    """Up, down, left or right: from the first cell of each maze's path to the second; mazes without a step are left."""
    ways = {}
    for i, sequence in enumerate(batch.sequence_of.tolist()):
        if sequence not in ways:
            path = batch.text(i).path
            ways[sequence] = WAYS[path[1][0] - path[0][0], path[1][1] - path[0][1]] if len(path) > 1 else None
    of_prompt = [ways[sequence] for sequence in batch.sequence_of.tolist()]
    kept = [i for i, way in enumerate(of_prompt) if way is not None]
    if not kept:
        raise InputError(f"none of the {len(batch)} prompts is about a maze with a step")
    return PromptClasses.of(batch.select(kept), [of_prompt[i] for i in kept], "which way the first step goes")


def _distance(batch: MazePromptBatch) -> PromptClasses:
    """Steps to the target above their median, or below it; prompts at the median are left out."""
    steps = torch.as_tensor(batch.columns["distance"]).double()
    median = float(steps.quantile(0.5))
    apart = torch.nonzero(steps != median).flatten()
    if len(apart) == 0:
        raise InputError(f"all {len(batch)} prompts are {median:g} steps from the target: none is above the median")
    labels = ["above" if far else "below" for far in (steps[apart] > median).tolist()]
    return PromptClasses.of(batch.select(apart), labels, f"distance to the target, above or below {median:g} steps")


def _passage(batch: MazePromptBatch, passage: Any) -> PromptClasses:
    """Whether a passage is open, by the adjacency list."""
    a, b = _ends(passage, batch.grid_n)
    open_in: dict[int, bool] = {}
    for i, sequence in enumerate(batch.sequence_of.tolist()):
        if sequence not in open_in:
            open_in[sequence] = (a, b) in batch.text(i).passages
    labels = ["open" if open_in[sequence] else "closed" for sequence in batch.sequence_of.tolist()]
    where = f"between {cell_token(a)} and {cell_token(b)}"
    if len(set(labels)) < 2:
        raise InputError(f"the passage {where} is {labels[0]} in all {len(batch)} prompts: there is nothing to tell")
    return PromptClasses.of(batch, labels, f"is the passage {where} open")


def _ends(passage: Any, grid_n: int) -> Passage:
    """Two neighbouring cells of the lattice, the smaller one first.

    Raises:
        InputError: anything else.
    """
    takes = "passage is two neighbouring cells of the lattice, ((row, column), (row, column))"
    cells: list[Cell] = []
    try:
        for cell in list(passage):
            row, column = (whole_number(number) for number in cell)
            if row is None or column is None or not (0 <= row < grid_n and 0 <= column < grid_n):
                raise InputError(f"{takes}, with numbers from 0 to {grid_n - 1}, got {passage!r:.60}")
            cells.append((row, column))
    except (TypeError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{takes}, got {passage!r:.60}") from None
    if len(cells) != 2 or abs(cells[0][0] - cells[1][0]) + abs(cells[0][1] - cells[1][1]) != 1:
        raise InputError(f"{takes}, got {passage!r:.60}")
    return min(cells), max(cells)
