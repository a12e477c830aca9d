"""A walk of a model by itself, in its maze."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, withStroke

from maze_dla.errors import check_kind, check_whole
from maze_dla.geometry import Cell, MazeGeometry, cell_of, passage_of_each
from maze_dla.plots._axes import axes_or_new, cell_size, titled
from maze_dla.plots._colours import ATTENTION, BLUE, POSITIVE
from maze_dla.plots.maze import CellValues, draw_maze, legend_below, mark_cell
from maze_dla.results.rollout import NEVER, RolloutResult

SIZE = (5.2, 5.2)
ASIDE = 0.13  # of a cell: how far beside the solution the walk is drawn
PATH_END = "<PATH_END>"
SMALLEST = 5  # rows and columns, where the result does not say how large its mazes are


def rollout(rollout: RolloutResult, walk: int = 0, ax: Axes | None = None) -> Axes:
    """The maze with its solution and the model's walk, a little beside it; the first wrong step is marked.

    A walk that says something else than a cell, or a cell that this maze does not have, breaks off there and goes on
    with the next cell; the title says how many such tokens are not drawn.

    Args:
        rollout: from `maze.rollout`.
        walk: which walk.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: no rollout, or no such walk.
    """
    check_kind(rollout, RolloutResult, "this picture takes a result of maze.rollout")
    walk = check_whole("walk", walk, 0, len(rollout) - 1)
    ax = axes_or_new(ax, SIZE)
    maze = _geometry(rollout, walk)
    empty = CellValues(np.zeros((maze.rows, maze.columns)), {}, 0.0)
    draw_maze(ax, maze, empty, ATTENTION, 0)
    _draw_walk(ax, maze, rollout.walks[walk])
    _mark_first_wrong(ax, maze, rollout, walk)
    legend_below(ax)
    n = sum(token != PATH_END and _inside(maze, token) is None for token in rollout.walks[walk])
    aside = f"; tokens not drawn: {n}" if n else ""
    return titled(ax, f"Walk {walk}: {_in_words(rollout, walk)}{aside}")


def _geometry(rollout: RolloutResult, walk: int) -> MazeGeometry:
    """The walk's maze with its solution."""
    tokens = rollout.prompt_tokens[walk]
    cells = tuple(map(cell_of, tokens))
    passages = tuple(passage_of_each(tokens))
    connections = frozenset(passage for passage in passages if passage is not None)
    path = tuple(cell for token in rollout.solutions[walk] if (cell := cell_of(token)) is not None)
    asked = rollout.info.get("grid_n")
    largest = max(max(cell) + 1 for passage in connections for cell in passage)
    size = max(largest, asked if isinstance(asked, int) else SMALLEST)
    return MazeGeometry(size, size, connections, path, tokens, cells, None, passages)


def _inside(maze: MazeGeometry, token: str) -> Cell | None:
    """The cell that a token names, where the maze has it."""
    cell = cell_of(token)
    return cell if cell is not None and cell[0] < maze.rows and cell[1] < maze.columns else None


def _draw_walk(ax: Axes, maze: MazeGeometry, tokens: tuple[str, ...]) -> None:
    """The walk as a line with a mark at its end, in pieces where it names no cell."""
    cells = [_inside(maze, token) for token in tokens]
    pieces = [list(piece) for there, piece in groupby(cells, lambda cell: cell is not None) if there]
    outlined = [withStroke(linewidth=4.2, foreground="white"), Normal()]
    for i, piece in enumerate(pieces):
        rows, columns = zip(*piece, strict=True)  # pyright: ignore[reportArgumentType]
        x, y = np.array(columns) + ASIDE, np.array(rows) + ASIDE
        label = "_nolegend_" if i else "the model's walk"
        ax.plot(x, y, color=BLUE, linewidth=2.2, path_effects=outlined, zorder=4.5, label=label)
    if pieces:
        row, column = pieces[-1][-1]  # pyright: ignore[reportGeneralTypeIssues]
        size = min(7.0, 0.2 * min(cell_size(ax, maze.rows, maze.columns)))
        mark_cell(ax, (row + ASIDE, column + ASIDE), "its end", marker="s", color=BLUE, size=size)


def _mark_first_wrong(ax: Axes, maze: MazeGeometry, rollout: RolloutResult, walk: int) -> None:
    """A cross on the first wrong step: where it leads, or where it stands if it leads to no cell of the maze."""
    step = int(rollout.first_wrong[walk])
    if step == NEVER:
        return
    tokens = rollout.walks[walk]
    there = _inside(maze, tokens[step])
    here = _inside(maze, tokens[step - 1]) if step else None
    if (at := there or here) is None:
        return
    if there is not None and here is not None and there != here:  # on the way, so that later steps do not hide it
        at = ((here[0] + there[0]) / 2, (here[1] + there[1]) / 2)
    size = min(13.0, 0.42 * min(cell_size(ax, maze.rows, maze.columns)))
    mark_cell(ax, (at[0] + ASIDE, at[1] + ASIDE), "first wrong step", marker="X", color=POSITIVE, size=size)


def _in_words(rollout: RolloutResult, walk: int) -> str:
    """How the walk went."""
    solved, stopped = bool(rollout.holds("solved")[walk]), str(rollout.columns["stopped"][walk])
    step, n = int(rollout.first_wrong[walk]), int(rollout.score("n_steps")[walk])
    shortest = len(rollout.solutions[walk]) - 2
    words = "solved" if solved else "not solved" if stopped == "path end" else stopped
    if step != NEVER:
        words += f", wrong at step {step} ({rollout.first_fault[walk]})"
    return f"{words}; {n} steps, the solution has {shortest}"
