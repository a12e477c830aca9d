"""Mazes: contributions that heads moved from their cells, and attention to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke
from matplotlib.transforms import ScaledTranslation
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.geometry import Cell, MazeGeometry, Mazes, Passage
from maze_dla.plots._axes import (
    POINTS_PER_INCH,
    SMALL,
    axes_or_new,
    cell_size,
    colour_bar,
    legend_columns,
    new_axes,
    size_in_points,
    titled,
)
from maze_dla.plots._checks import check_attribution, check_head, maze_of
from maze_dla.plots._colours import ATTENTION, INK, SIGNED
from maze_dla.plots._words import metric_name, signed
from maze_dla.results.attribution import ContributionResult
from maze_dla.results.components import Component
from maze_dla.results.parts import Head

FAINTEST = 0.01  # logits, or share of attention, below which all looks alike
SIZE = (5.6, 4.8)
PAIR_SIZE = (10.0, 4.8)
MAZE_SHARE = 0.75  # of the smaller side of its room that the maze itself has
LEGEND_SIDES = 22.0  # what an entry of the legend takes beside its words, in points
BELOW = 30.0  # points that column numbers and their name take below the maze
OUTSIDE, GOLD, LIME, BAR_EDGE = "#A6A6A6", "#FFD92F", "#00E0A4", "#8C8C8C"
Place = tuple[int, int]
Segment = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class CellValues:
    """A number for each cell, [row, column], and each passage, and what fell to all other tokens."""

    cells: Float[np.ndarray, "row column"]
    passages: dict[Passage, float]
    other: float

    @property
    def total(self) -> float:
        """The sum over all cells."""
        return float(self.cells.sum())

    @property
    def in_passages(self) -> float:
        """The sum over all passages."""
        return sum(self.passages.values())

    def limit(self, least: float) -> float:
        """The largest size of any number, and at least so much: noise around zero gets no strong colour."""
        sizes = [float(np.abs(self.cells).max()), *(abs(v) for v in self.passages.values())]
        return max(*sizes, least)


def maze_sources(
    result: ContributionResult,
    maze: MazeGeometry | Mazes,
    prompt: int = 0,
    head: Head | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The maze, each cell coloured by what a head moved from the cell's tokens into the metric, in logits.

    Between two cells a bar has the colour of what came from the `<-->` and `;` of their passage.

    Args:
        result: from `attribute(..., sources=True)`, or one half of a contrast, drawn on the clean prompt's maze.
        maze: the batch or pairs that the result was made of, or the geometry of this prompt.
        prompt: which prompt.
        head: (layer, head), a name such as "L5H3" or an entry of `top_heads()`; None sums the heads of all layers.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: a result without sources, no such prompt or head, or the batch or geometry of other prompts.
    """
    maze, place = _asked(result, maze, prompt, head)
    values = _cell_sources(result, maze, prompt, place)
    return _draw_sources(axes_or_new(ax, SIZE), maze, values, place, result)


def maze_attention(
    result: ContributionResult,
    maze: MazeGeometry | Mazes,
    prompt: int = 0,
    head: Head | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The maze, each cell coloured by the attention that a head pays to the cell's tokens from the read position.

    Args:
        result: from `attribute(..., sources=True)`.
        maze: the batch that the result was made of, or the geometry of this prompt.
        prompt: which prompt.
        head: (layer, head), a name such as "L5H3" or an entry of `top_heads()`; None takes the mean over all heads.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: a result without patterns, no such prompt or head, or the batch or geometry of other prompts.
    """
    maze, place = _asked(result, maze, prompt, head)
    values = _cell_attention(result, maze, prompt, place)
    return _draw_attention(axes_or_new(ax, SIZE), maze, values, place)


def maze_sources_and_attention(
    result: ContributionResult, maze: MazeGeometry | Mazes, prompt: int = 0, head: Head | None = None
) -> tuple[Axes, Axes]:
    """`maze_sources` and `maze_attention` side by side in a new figure.

    Raises:
        InputError: as the two raise it.
    """
    maze, place = _asked(result, maze, prompt, head)
    sources, attention = _cell_sources(result, maze, prompt, place), _cell_attention(result, maze, prompt, place)
    left, right = new_axes(2, PAIR_SIZE)
    _draw_sources(left, maze, sources, place, result)
    _draw_attention(right, maze, attention, place)
    return left, right


def _asked(
    result: ContributionResult, maze: MazeGeometry | Mazes, prompt: int, head: Head | None
) -> tuple[MazeGeometry, Place | None]:
    """The maze of the prompt, and layer and head."""
    check_attribution(result)
    return maze_of(result, maze, prompt), check_head(result, head)


def _draw_sources(
    ax: Axes, maze: MazeGeometry, values: CellValues, head: Place | None, result: ContributionResult
) -> Axes:
    image = draw_maze(ax, maze, values, SIGNED, -1)
    who = "all heads" if head is None else f"head {Component('head', *head)}"
    half = f", {result.info['part']} part" if "part" in result.info else ""
    title = f"What {who} moved from each cell{half}\n{shares_in_words(values, signed)} logits"
    return finish_maze(ax, image, title, f"{metric_name(result)} (logits)")


def _draw_attention(ax: Axes, maze: MazeGeometry, values: CellValues, head: Place | None) -> Axes:
    image = draw_maze(ax, maze, values, ATTENTION, 0)
    who = "all heads, on average" if head is None else f"head {Component('head', *head)}"
    return finish_maze(ax, image, f"Attention of {who}\n{shares_in_words(values, '{:.0%}'.format)}", "attention")


def shares_in_words(values: CellValues, written: Callable[[float], str]) -> str:
    """The shares of cells, of passages where they are known, and of other tokens."""
    shares = {"cells": values.total, "passages": values.in_passages, "other tokens": values.other}
    if not values.passages:
        del shares["passages"]
    return ", ".join(f"{name} {written(value)}" for name, value in shares.items())


def finish_maze(ax: Axes, image: AxesImage, title: str, unit: str) -> Axes:
    """The axes with colour bar, legend and title."""
    colour_bar(ax, image, unit, height=MAZE_SHARE * min(size_in_points(ax)))
    legend_below(ax)
    return titled(ax, title)


def legend_below(ax: Axes) -> None:
    """The legend of a maze, below the numbers of its columns."""
    names = ax.get_legend_handles_labels()[1]
    below = ScaledTranslation(0, -BELOW / POINTS_PER_INCH, ax.figure.dpi_scale_trans)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=ax.transAxes + below,
        borderaxespad=0,
        ncols=legend_columns(names, size_in_points(ax)[0], LEGEND_SIDES),
        fontsize=SMALL,
        frameon=False,
        columnspacing=1.0,
        handlelength=1.4,
        handletextpad=0.5,
        markerscale=0.7,
    )


def _cell_sources(result: ContributionResult, maze: MazeGeometry, prompt: int, head: Place | None) -> CellValues:
    """The contribution that a head, or all heads together, moved from each cell's tokens, in logits."""
    return by_cell(maze, _of_head(result.sources, "sources", prompt, head).sum(0))


def _cell_attention(result: ContributionResult, maze: MazeGeometry, prompt: int, head: Place | None) -> CellValues:
    """The attention that a head pays to each cell's tokens, or the mean over all heads."""
    if "part" in result.info:
        raise InputError("half of a contrast has no attention of its own: draw that of contrast.clean or .corrupted")
    patterns = getattr(result, "patterns", None)
    return by_cell(maze, _of_head(patterns, "attention patterns", prompt, head).mean(0))


def _of_head(values: Tensor | None, what: str, prompt: int, head: Place | None) -> Float[Tensor, "head position"]:
    if values is None:
        raise InputError(f"this result has no {what} to draw: ask with attribute(..., sources=True)")
    every = values[prompt].double()
    return every.flatten(0, 1) if head is None else every[head[0], head[1]][None]


def by_cell(maze: MazeGeometry, values: Float[Tensor, " position"]) -> CellValues:
    """The sum of what fell to the tokens of each cell, of each passage, and to all others.

    Raises:
        InputError: a token names a cell outside the maze.
    """
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


def draw_maze(
    ax: Axes, maze: MazeGeometry, values: CellValues, cmap: str, least: int, limit: float | None = None
) -> AxesImage:
    """The maze with row 0 at the top and each cell coloured by its value; cells without passages are grey.

    Colours range from `least` times the limit to the limit, by default the largest size.
    """
    outside = np.array([[not _passages(maze, (r, c)) for c in range(maze.columns)] for r in range(maze.rows)])
    limit = values.limit(FAINTEST) if limit is None else limit
    shown = np.ma.masked_array(values.cells, outside)
    image = ax.imshow(shown, cmap=cmap, vmin=least * limit, vmax=limit, aspect="equal", origin="upper", zorder=1)
    for row, column in np.argwhere(outside):
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=OUTSIDE, linewidth=0, zorder=1.5))
    _draw_passages(ax, values.passages, image)
    ax.add_collection(LineCollection(_walls(maze), colors=INK, linewidths=3, capstyle="projecting", zorder=3))
    _draw_path(ax, maze)
    ax.set_xlim(-0.56, maze.columns - 0.44)
    ax.set_ylim(maze.rows - 0.44, -0.56)
    ax.set(xlabel="column", ylabel="row", xticks=range(maze.columns), yticks=range(maze.rows))
    ax.tick_params(length=0, labelsize=8)
    ax.spines[:].set_visible(False)
    return image


def _draw_passages(ax: Axes, passages: dict[Passage, float], image: AxesImage) -> None:
    """A bar across the middle of each passage, in the colour of its value."""
    for ((row, column), (to_row, to_column)), value in passages.items():
        middle = ((column + to_column) / 2, (row + to_row) / 2)
        width, height = (0.2, 0.5) if row == to_row else (0.5, 0.2)
        corner = (middle[0] - width / 2, middle[1] - height / 2)
        colour = image.to_rgba(np.array([value]))[0]
        ax.add_patch(Rectangle(corner, width, height, facecolor=colour, edgecolor=BAR_EDGE, linewidth=0.5, zorder=2))


def _walls(maze: MazeGeometry) -> list[Segment]:
    """The border, and a line in (x, y) between any two neighbouring cells without a passage."""
    right, bottom = maze.columns - 0.5, maze.rows - 0.5
    corners = [(-0.5, -0.5), (right, -0.5), (right, bottom), (-0.5, bottom)]
    lines: list[Segment] = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    for row in range(maze.rows):
        for column in range(maze.columns):
            x, y = column + 0.5, row + 0.5
            if column + 1 < maze.columns and not _connected(maze, (row, column), (row, column + 1)):
                lines.append(((x, y - 1), (x, y)))
            if row + 1 < maze.rows and not _connected(maze, (row, column), (row + 1, column)):
                lines.append(((x - 1, y), (x, y)))
    return lines


def _connected(maze: MazeGeometry, a: Cell, b: Cell) -> bool:
    return (a, b) in maze.connections or (b, a) in maze.connections


def _passages(maze: MazeGeometry, cell: Cell) -> bool:
    return any(cell in passage for passage in maze.connections)


def _draw_path(ax: Axes, maze: MazeGeometry) -> None:
    """The solution with its ends, and a frame around the cell at the read position."""
    size = min(cell_size(ax, maze.rows, maze.columns))
    if maze.path:
        rows, columns = zip(*maze.path, strict=True)
        outlined = [withStroke(linewidth=3.6, foreground="white"), Normal()]
        ax.plot(columns, rows, color=INK, linewidth=1.6, path_effects=outlined, zorder=4, label="solution path")
        mark_cell(ax, maze.origin, "origin", marker="o", color="white", size=min(9.0, 0.3 * size))
        mark_cell(ax, maze.target, "target", marker="*", color=GOLD, size=min(15.0, 0.5 * size))
    if maze.current is not None:
        row, column = maze.current
        frame = Rectangle((column - 0.36, row - 0.36), 0.72, 0.72, fill=False, zorder=5, label="current cell")
        frame.set(edgecolor=LIME, linewidth=2.4, path_effects=[withStroke(linewidth=4, foreground=INK), Normal()])
        ax.add_patch(frame)


def mark_cell(ax: Axes, cell: tuple[float, float], label: str, *, marker: str, color: str, size: float) -> None:
    """A marker at a row and column, with an entry in the legend."""
    ax.plot(
        [cell[1]],
        [cell[0]],
        marker=marker,
        markersize=size,
        markerfacecolor=color,
        markeredgecolor=INK,
        markeredgewidth=1.3,
        linestyle="none",
        label=label,
        zorder=5,
    )
