"""What heads moved from, and how they attended to, the cells of a maze."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from maze_dla.plots._axes import axes_or_new, new_axes
from maze_dla.plots._cell_values import CellValues, cell_attention, cell_sources
from maze_dla.plots._checks import Head
from maze_dla.plots._colours import ATTENTION, SIGNED
from maze_dla.plots._maze import draw_maze
from maze_dla.plots._words import head_name, in_lines, metric_name, signed
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.geometry import MazeGeometry

FAINTEST = 0.01  # logits, or share of attention, below which all looks alike
SIZE = (5.6, 4.8)
PAIR_SIZE = (10.0, 4.8)


def maze_sources(
    result: AttributionResult, maze: MazeGeometry, prompt: int = 0, head: Head | None = None, ax: Axes | None = None
) -> Axes:
    """The maze, each cell coloured by what a head moved from the cell's tokens into the metric, in logits.

    Between two cells a bar has the colour of what came from the `<-->` and `;` of their passage.

    Args:
        result: from `attribute(..., sources=True)`.
        maze: the geometry of this prompt.
        prompt: which prompt.
        head: (layer, head); None sums the heads of all layers.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: a result without sources, no such prompt or head, or the geometry of another prompt.
    """
    values = cell_sources(result, maze, prompt, head)
    return _draw_sources(axes_or_new(ax, SIZE), maze, values, head, metric_name(result))


def maze_attention(
    result: AttributionResult, maze: MazeGeometry, prompt: int = 0, head: Head | None = None, ax: Axes | None = None
) -> Axes:
    """The maze, each cell coloured by the attention that a head pays to the cell's tokens from the read position.

    Args:
        result: from `attribute(..., sources=True)`.
        maze: the geometry of this prompt.
        prompt: which prompt.
        head: (layer, head); None takes the mean over the heads of all layers.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: a result without patterns, no such prompt or head, or the geometry of another prompt.
    """
    values = cell_attention(result, maze, prompt, head)
    return _draw_attention(axes_or_new(ax, SIZE), maze, values, head)


def maze_sources_and_attention(
    result: AttributionResult, maze: MazeGeometry, prompt: int = 0, head: Head | None = None
) -> tuple[Axes, Axes]:
    """`maze_sources` and `maze_attention` side by side in a new figure.

    Raises:
        InputError: as the two raise it.
    """
    sources = cell_sources(result, maze, prompt, head)
    attention = cell_attention(result, maze, prompt, head)
    left, right = new_axes(2, PAIR_SIZE)
    _draw_sources(left, maze, sources, head, metric_name(result))
    _draw_attention(right, maze, attention, head)
    return left, right


def _draw_sources(ax: Axes, maze: MazeGeometry, values: CellValues, head: Head | None, metric: str) -> Axes:
    limit = values.limit(FAINTEST)
    image = draw_maze(ax, maze, values.cells, values.passages, cmap=SIGNED, limits=(-limit, limit))
    who = "all heads" if head is None else f"head {head_name(*head)}"
    unit = f"{metric} (logits)"
    shares = _shares(values, signed)
    return _finish(ax, image, f"What {who} moved from each cell\n{shares} logits", unit)


def _draw_attention(ax: Axes, maze: MazeGeometry, values: CellValues, head: Head | None) -> Axes:
    limits = (0.0, values.limit(FAINTEST))
    image = draw_maze(ax, maze, values.cells, values.passages, cmap=ATTENTION, limits=limits)
    who = "all heads, on average" if head is None else f"head {head_name(*head)}"
    shares = _shares(values, "{:.0%}".format)
    return _finish(ax, image, f"Attention of {who}\n{shares}", "attention")


def _shares(values: CellValues, written: Callable[[float], str]) -> str:
    """What fell to cells, to passages where they are known, and to other tokens."""
    shares = {"cells": values.total, "passages": values.in_passages, "other tokens": values.other}
    if not values.passages:
        del shares["passages"]
    return ", ".join(f"{name} {written(value)}" for name, value in shares.items())


def _finish(ax: Axes, image: AxesImage, title: str, unit: str) -> Axes:
    bar = ax.inset_axes((1.04, 0.02, 0.045, 0.96))  # as high as the maze, which keeps its aspect
    ax.figure.colorbar(image, cax=bar)
    bar.set_ylabel(in_lines(unit, 36), fontsize=9)
    bar.tick_params(labelsize=8)
    ax.set_title(title, fontsize=10)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncols=4,
        fontsize=8,
        frameon=False,
        columnspacing=1.2,
        handletextpad=0.6,
        markerscale=0.7,
    )
    return ax
