"""Contributions that heads moved from the cells of a maze, and their attention to them."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.transforms import ScaledTranslation

from maze_dla.geometry import MazeGeometry, Mazes
from maze_dla.plots._axes import (
    POINTS_PER_INCH,
    SMALL,
    axes_or_new,
    colour_bar,
    legend_columns,
    new_axes,
    size_in_points,
    titled,
)
from maze_dla.plots._cell_values import CellValues, cell_attention, cell_sources
from maze_dla.plots._checks import check_attribution, check_head, maze_of
from maze_dla.plots._colours import ATTENTION, SIGNED
from maze_dla.plots._maze import draw_maze
from maze_dla.plots._words import metric_name, signed
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.components import Component
from maze_dla.results.parts import Head

FAINTEST = 0.01  # logits, or share of attention, below which all looks alike
SIZE = (5.6, 4.8)
PAIR_SIZE = (10.0, 4.8)
MAZE_SHARE = 0.75  # of the smaller side of its room that the maze itself has
LEGEND_SIDES = 22.0  # what an entry of the legend takes beside its words, in points
BELOW = 30.0  # points that column numbers and their name take below the maze
Place = tuple[int, int]


def maze_sources(
    result: AttributionResult,
    maze: MazeGeometry | Mazes,
    prompt: int = 0,
    head: Head | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The maze, each cell coloured by what a head moved from the cell's tokens into the metric, in logits.

    Between two cells a bar has the colour of what came from the `<-->` and `;` of their passage.

    Args:
        result: from `attribute(..., sources=True)`.
        maze: the batch that the result was made of, or the geometry of this prompt.
        prompt: which prompt.
        head: (layer, head), a name such as "L5H3" or an entry of `top_heads()`; None sums the heads of all layers.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: a result without sources, no such prompt or head, or the batch or geometry of other prompts.
    """
    maze, place = _asked(result, maze, prompt, head)
    values = cell_sources(result, maze, prompt, place)
    return _draw_sources(axes_or_new(ax, SIZE), maze, values, place, metric_name(result))


def maze_attention(
    result: AttributionResult,
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
    values = cell_attention(result, maze, prompt, place)
    return _draw_attention(axes_or_new(ax, SIZE), maze, values, place)


def maze_sources_and_attention(
    result: AttributionResult, maze: MazeGeometry | Mazes, prompt: int = 0, head: Head | None = None
) -> tuple[Axes, Axes]:
    """`maze_sources` and `maze_attention` side by side in a new figure.

    Raises:
        InputError: as the two raise it.
    """
    maze, place = _asked(result, maze, prompt, head)
    sources, attention = cell_sources(result, maze, prompt, place), cell_attention(result, maze, prompt, place)
    left, right = new_axes(2, PAIR_SIZE)
    _draw_sources(left, maze, sources, place, metric_name(result))
    _draw_attention(right, maze, attention, place)
    return left, right


def _asked(
    result: AttributionResult, maze: MazeGeometry | Mazes, prompt: int, head: Head | None
) -> tuple[MazeGeometry, Place | None]:
    """The maze of the prompt, and layer and head."""
    check_attribution(result)
    return maze_of(result, maze, prompt), check_head(result, head)


def _draw_sources(ax: Axes, maze: MazeGeometry, values: CellValues, head: Place | None, metric: str) -> Axes:
    limit = values.limit(FAINTEST)
    image = draw_maze(ax, maze, values.cells, values.passages, cmap=SIGNED, limits=(-limit, limit))
    who = "all heads" if head is None else f"head {Component('head', *head)}"
    unit = f"{metric} (logits)"
    shares = _shares(values, signed)
    return _finish(ax, image, f"What {who} moved from each cell\n{shares} logits", unit)


def _draw_attention(ax: Axes, maze: MazeGeometry, values: CellValues, head: Place | None) -> Axes:
    limits = (0.0, values.limit(FAINTEST))
    image = draw_maze(ax, maze, values.cells, values.passages, cmap=ATTENTION, limits=limits)
    who = "all heads, on average" if head is None else f"head {Component('head', *head)}"
    shares = _shares(values, "{:.0%}".format)
    return _finish(ax, image, f"Attention of {who}\n{shares}", "attention")


def _shares(values: CellValues, written: Callable[[float], str]) -> str:
    """The shares of cells, of passages where they are known, and of other tokens."""
    shares = {"cells": values.total, "passages": values.in_passages, "other tokens": values.other}
    if not values.passages:
        del shares["passages"]
    return ", ".join(f"{name} {written(value)}" for name, value in shares.items())


def _finish(ax: Axes, image: AxesImage, title: str, unit: str) -> Axes:
    width, height = size_in_points(ax)
    colour_bar(ax, image, unit, height=MAZE_SHARE * min(width, height))
    names = ax.get_legend_handles_labels()[1]
    below = ScaledTranslation(0, -BELOW / POINTS_PER_INCH, ax.figure.dpi_scale_trans)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=ax.transAxes + below,
        borderaxespad=0,
        ncols=legend_columns(names, width, LEGEND_SIDES),
        fontsize=SMALL,
        frameon=False,
        columnspacing=1.0,
        handlelength=1.4,
        handletextpad=0.5,
        markerscale=0.7,
    )
    return titled(ax, title)
