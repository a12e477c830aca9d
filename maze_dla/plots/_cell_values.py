"""From a prompt's positions to the cells that its tokens name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.geometry import MazeGeometry, Passage
from maze_dla.results.attribution import AttributionResult


@dataclass(frozen=True)
class CellValues:
    """A number for each cell, [row, column], and each passage, and what fell to all other tokens."""

    cells: Float[np.ndarray, "row column"]
    passages: dict[Passage, float]
    other: float

    @property
    def total(self) -> float:
        """What fell to all cells together."""
        return float(self.cells.sum())

    @property
    def in_passages(self) -> float:
        """What fell to all passages together."""
        return sum(self.passages.values())

    def limit(self, least: float) -> float:
        """The largest size of any number, and at least so much: noise around zero gets no strong colour."""
        sizes = [float(np.abs(self.cells).max()), *(abs(v) for v in self.passages.values())]
        return max(*sizes, least)


Place = tuple[int, int]


def cell_sources(result: AttributionResult, maze: MazeGeometry, prompt: int, head: Place | None) -> CellValues:
    """The contribution that a head, or all heads together, moved from each cell's tokens, in logits."""
    return _by_cell(maze, _of_head(result.sources, "sources", prompt, head).sum(0))


def cell_attention(result: AttributionResult, maze: MazeGeometry, prompt: int, head: Place | None) -> CellValues:
    """The attention that a head pays to each cell's tokens, or the mean over all heads."""
    return _by_cell(maze, _of_head(result.patterns, "attention patterns", prompt, head).mean(0))


def _of_head(values: Tensor | None, what: str, prompt: int, head: Place | None) -> Float[Tensor, "head position"]:
    if values is None:
        raise InputError(f"this result has no {what} to draw: ask with attribute(..., sources=True)")
    every = values[prompt].double()
    return every.flatten(0, 1) if head is None else every[head[0], head[1]][None]


def _by_cell(maze: MazeGeometry, values: Float[Tensor, " position"]) -> CellValues:
    cells, other = np.zeros((maze.rows, maze.columns)), 0.0
    in_passages: dict[Passage, float] = {}
    passages = maze.token_passages or (None,) * len(maze.tokens)
    for cell, passage, value in zip(maze.token_cells, passages, values.tolist(), strict=False):  # padded after the end
        if passage is not None:
            in_passages[passage] = in_passages.get(passage, 0.0) + value
        elif cell is None:
            other += value
        elif 0 <= cell[0] < maze.rows and 0 <= cell[1] < maze.columns:
            cells[cell] += value
        else:
            raise InputError(f"a token names cell {cell}, the maze has {maze.rows} rows and {maze.columns} columns")
    return CellValues(cells, in_passages, other)
