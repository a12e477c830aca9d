"""Patching on the lattice: at which layer the metric hangs on the tokens of which cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from maze_dla.errors import InputError, check_kind, check_whole
from maze_dla.geometry import MazeGeometry, Mazes, Passage
from maze_dla.plots._axes import SMALL
from maze_dla.plots._checks import check_prompt, maze_of
from maze_dla.plots._colours import SIGNED
from maze_dla.plots._strip import finish_strip, strip_of_axes
from maze_dla.plots._words import shown_token, signed
from maze_dla.plots.maze import FAINTEST, CellValues, draw_maze
from maze_dla.plots.patched import CHANGE, TAKES, title_of
from maze_dla.results.patching import PatchResult

ABOVE = "(above each maze: the largest change by a token of no cell or passage)"


@dataclass(frozen=True)
class _Layer:
    """The changes of one layer on the lattice, and the position of another token that changes most."""

    layer: int
    values: CellValues
    elsewhere: int | None


def patching_on_maze(
    result: PatchResult, maze: MazeGeometry | Mazes, prompt: int = 0, layers: Sequence[int] | None = None
) -> tuple[Axes, ...]:
    """The maze once for each layer, each cell coloured by the change of the metric that patching its tokens makes.

    A cell that several tokens name has the largest change by size among them, since positions are patched one at a time
    and their changes do not add up; likewise the bars of passages. Above each maze stands the largest change of any
    other token. All mazes have one scale, in logits.

    Args:
        result: of `patch` by layer and position.
        maze: the pairs or the batch of clean prompts that the result was made of, or the geometry of this prompt.
        prompt: which prompt.
        layers: which layers; default all.

    Returns:
        The axes in a new figure, one for each layer.

    Raises:
        InputError: something else than such a result, no such prompt or layer, or the batch or geometry of other
            prompts.
    """
    check_kind(result, PatchResult, TAKES)
    if result.axes != ("layer", "position"):
        raise InputError(f"this picture is by layer and position, got a result by {' and '.join(result.axes)}")
    prompt, geometry = check_prompt(result, prompt), maze_of(result, maze, prompt)
    shown = [_of_layer(result, geometry, prompt, layer) for layer in _chosen(layers, result.values.shape[1])]
    limit = max(one.values.limit(FAINTEST) for one in shown)
    axes = strip_of_axes(len(shown))
    for ax, one in zip(axes, shown, strict=False):
        _draw(ax, geometry, one, result.prompt_tokens[prompt], limit)
    title = f"{title_of(result, prompt)}\n{ABOVE}"
    return finish_strip(axes, len(shown), title, f"{CHANGE} by a cell's token")


def _chosen(layers: Sequence[int] | None, n_layers: int) -> list[int]:
    if layers is None:
        return list(range(n_layers))
    if isinstance(layers, str) or not isinstance(layers, Sequence) or not layers:
        raise InputError(f"layers is a list of layers, such as [0, 2], got {layers!r:.80}")
    return [check_whole("each of layers", layer, 0, n_layers - 1) for layer in layers]


def _of_layer(result: PatchResult, maze: MazeGeometry, prompt: int, layer: int) -> _Layer:
    """The largest change by size of each cell, of each passage, and of all other tokens."""
    cells = np.zeros((maze.rows, maze.columns))
    passages: dict[Passage, float] = {}
    elsewhere, other = None, 0.0
    between = maze.token_passages or (None,) * len(maze.tokens)
    change = result.change[prompt, layer, : len(maze.tokens)].tolist()
    for position, (cell, passage, value) in enumerate(zip(maze.token_cells, between, change, strict=True)):
        if passage is not None:
            passages[passage] = max(value, passages.get(passage, 0.0), key=abs)
        elif cell is None:
            if abs(value) > abs(other):
                elsewhere, other = position, value
        elif 0 <= cell[0] < maze.rows and 0 <= cell[1] < maze.columns:
            cells[cell] = max(value, float(cells[cell]), key=abs)
        else:
            raise InputError(f"a token names cell {cell}, the maze has {maze.rows} rows and {maze.columns} columns")
    return _Layer(layer, CellValues(cells, passages, other), elsewhere)


def _draw(ax: Axes, maze: MazeGeometry, one: _Layer, tokens: tuple[str, ...], limit: float) -> None:
    draw_maze(ax, maze, one.values, SIGNED, -1, limit)
    ax.set(xlabel="", ylabel="")
    words = f"layer {one.layer}"
    if one.elsewhere is not None:
        words += f"\n{signed(one.values.other)} at {shown_token(tokens[one.elsewhere], 16)}"
    ax.set_title(words, fontsize=SMALL)
