"""The token lens on the lattice: at each depth the probability that the next token is each of the cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from maze_dla.errors import InputError, check_kind, check_whole
from maze_dla.geometry import Cell, MazeGeometry, Mazes
from maze_dla.plots._axes import SMALL
from maze_dla.plots._checks import check_prompt, maze_of
from maze_dla.plots._colours import ATTENTION
from maze_dla.plots._strip import finish_strip, strip_of_axes
from maze_dla.plots._words import shown_token
from maze_dla.plots.curves import SCALES
from maze_dla.plots.maze import CellValues, draw_maze
from maze_dla.results.lens import TokenLensResult
from maze_dla.results.words import depth_name

LEAST = 0.1  # the least probability at the dark end, so that hardly any gets no strong colour
TAKES = "this picture takes a result of token_lens(..., tokens='cells')"


@dataclass(frozen=True)
class _Depth:
    """The probability of each cell as read at one depth, and of all tokens that are no cell of the maze."""

    label: str
    values: CellValues


def lens_maze(
    result: TokenLensResult,
    maze: MazeGeometry | Mazes,
    prompt: int = 0,
    depths: Sequence[str] | None = None,
    position: int | None = None,
) -> tuple[Axes, ...]:
    """The maze once for each depth, each cell coloured by the probability that it is the next token.

    Above each maze stands the probability of all tokens that are no cell of this maze. All mazes have one scale, from
    0 to the largest probability of a cell, at least 0.1. The frame is around the cell at which it is read.

    Args:
        result: of `token_lens(..., tokens="cells")`, with positions="all" where another position is wanted.
        maze: the batch that the result was made of, or the geometry of this prompt.
        prompt: which prompt.
        depths: which of `result.labels`, such as ["0_pre", "3_mid", "final_post"]; default all.
        position: where the distributions are read; default the read position.

    Returns:
        The axes in a new figure, one for each depth.

    Raises:
        InputError: something else than such a result, no such prompt, depth or position, or the batch or geometry of
            other prompts.
    """
    check_kind(result, TokenLensResult, TAKES)
    prompt, geometry = check_prompt(result, prompt), maze_of(result, maze, prompt)
    at = _position(result, prompt, position)
    shown = [_of_depth(result, geometry, prompt, at, label) for label in _chosen(depths, result.labels)]
    geometry = replace(geometry, current=geometry.token_cells[at])
    limit = max(float(one.values.cells.max()) for one in shown)
    axes = strip_of_axes(len(shown))
    for ax, one in zip(axes, shown, strict=False):
        draw_maze(ax, geometry, one.values, ATTENTION, 0, max(limit, LEAST))
        ax.set(xlabel="", ylabel="")
        ax.set_title(
            f"after {depth_name(result.labels, one.label)}\non other tokens: {one.values.other:.0%}", fontsize=SMALL
        )
    tokens = result.prompt_tokens[prompt]
    following = (*tokens[1:], result.targets[prompt])[at]
    title = (
        f"Prompt {prompt}: what follows {shown_token(tokens[at])} at position {at}, in truth {shown_token(following)}\n"
        f"(read at {SCALES[result.scale]})"
    )
    return finish_strip(axes, len(shown), title, "probability that the cell is next")


def _position(result: TokenLensResult, prompt: int, position: int | None) -> int:
    last = len(result.prompt_tokens[prompt]) - 1
    if position is None:
        return last
    if not result.all_positions:
        raise InputError("this result holds the read position alone: ask with token_lens(..., positions='all')")
    return check_whole("position", position, 0, last)


def _chosen(depths: Sequence[str] | None, labels: tuple[str, ...]) -> Sequence[str]:
    if depths is None:
        return labels
    if isinstance(depths, str) or not isinstance(depths, Sequence) or not depths:
        raise InputError(f"depths is a list of depths, such as {list(labels[:2])}, got {depths!r:.80}")
    if unknown := [label for label in depths if label not in labels]:
        raise InputError(f"unknown depth {unknown[0]!r:.40}, this result has {', '.join(labels)}")
    return depths


def _of_depth(result: TokenLensResult, maze: MazeGeometry, prompt: int, position: int, label: str) -> _Depth:
    """The probability of every cell that the prompt's text names."""
    cells, depth = np.zeros((maze.rows, maze.columns)), result.labels.index(label)
    for name, (row, column) in _cells(maze).items():
        at = position if result.all_positions else None
        cells[row, column] = float(result.probability_of(name, prompt, at)[depth])
    return _Depth(label, CellValues(cells, {}, max(1 - float(cells.sum()), 0.0)))


def _cells(maze: MazeGeometry) -> dict[str, Cell]:
    """The cells of the maze by the token that names them in its text.

    Raises:
        InputError: a token that lies outside the maze.
    """
    named = {token: cell for token, cell in zip(maze.tokens, maze.token_cells, strict=True) if cell is not None}
    outside = [cell for cell in named.values() if not (0 <= cell[0] < maze.rows and 0 <= cell[1] < maze.columns)]
    if outside:
        raise InputError(f"a token names cell {outside[0]}, the maze has {maze.rows} rows and {maze.columns} columns")
    return named
