"""Attention of a query of one's choice on the lattice, and by distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from maze_dla.errors import InputError, check_kind, check_whole, whole_number
from maze_dla.geometry import Cell, MazeGeometry, Mazes
from maze_dla.plots._axes import SMALL, TITLE, axes_or_new, new_grid, quiet_frame, titled_with_legend
from maze_dla.plots._checks import check_count, maze_of
from maze_dla.plots._colours import ATTENTION, LINES
from maze_dla.plots._words import counted_about, shown_token
from maze_dla.plots.groups import MARKERS
from maze_dla.plots.maze import FAINTEST, SIZE, CellValues, by_cell, draw_maze, finish_maze, shares_in_words
from maze_dla.results.attention import AttentionResult
from maze_dla.results.distances import DistanceResult
from maze_dla.results.parts import Head

TAKES = "this picture takes a result of attention"
MOST_COLUMNS = 4
WIDTH, HEIGHT, LEGEND = 2.9, 3.2, 1.1  # inches of a maze, and of the title and legend
CURRENT, OF_QUERY = "current cell", "cell of the query"
Query = int | Cell | None


@dataclass(frozen=True)
class _Looked:
    """The attention of one query of one prompt, by cell, and which token the query is."""

    maze: MazeGeometry
    values: CellValues
    position: int
    token: str


def attention_maze(
    result: AttentionResult,
    maze: MazeGeometry | Mazes,
    prompt: int = 0,
    head: Head | None = None,
    query: Query = None,
    ax: Axes | None = None,
) -> Axes:
    """The maze, each cell coloured by the attention that one query pays to the cell's tokens, all of them together.

    Between two cells a bar has the colour of what went to the `<-->` and `;` of their passage. A query looks at tokens
    up to itself alone; a frame is around its cell.

    Args:
        result: of `attention`.
        maze: the batch that the result was made of, or the geometry of this prompt.
        prompt: which prompt.
        head: (layer, head), a name such as "L5H3" or an entry of `scores.top(...)`; None takes the mean over all heads
            of the result.
        query: None for the prompt's last token; the position of a token, negative from the end; or a cell, (row,
            column), whose last token it is.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: something else than such a result, no such prompt, head or query, or the batch or geometry of other
            prompts.
    """
    looked = _looked(result, maze, prompt, head, query)
    ax = axes_or_new(ax, SIZE)
    image = _draw(ax, looked, None)
    title = f"Attention of {_who(result, head)} from {_which(looked)}\n{_shares(looked)}"
    return finish_maze(ax, image, title, "attention")


def attention_mazes(
    result: AttentionResult,
    mazes: Mazes,
    prompts: Sequence[int] = (0, 1, 2, 3),
    head: Head | None = None,
    query: Query = None,
) -> tuple[Axes, ...]:
    """`attention_maze` of several prompts in one new figure, all with one scale of colours.

    Args:
        result: of `attention`.
        mazes: the batch that it was made of.
        prompts: which prompts.
        head, query: as in `attention_maze`, the same for all prompts.

    Returns:
        The axes, one for each prompt.

    Raises:
        InputError: as `attention_maze`, or no prompts.
    """
    check_kind(result, AttentionResult, TAKES)
    if isinstance(prompts, str) or not isinstance(prompts, Sequence) or not prompts:
        raise InputError(f"prompts is a list of prompts, such as [0, 2], got {prompts!r:.80}")
    looked = [_looked(result, mazes, prompt, head, query) for prompt in prompts]
    limit = max(one.values.limit(FAINTEST) for one in looked)
    columns = min(MOST_COLUMNS, len(looked))
    rows = math.ceil(len(looked) / columns)
    grid = new_grid(rows, columns, (max(WIDTH * columns + 1.0, 6.4), HEIGHT * rows + LEGEND))
    every = [ax for row in grid for ax in row]
    axes = every[: len(looked)]
    for ax, one, prompt in zip(axes, looked, prompts, strict=True):
        _draw(ax, one, limit)
        ax.set(xlabel="", ylabel="")
        ax.set_title(
            f"prompt {prompt}, from {_which(one)}\n{_shares(one)}".replace(", other", ",\nother"), fontsize=SMALL
        )
    for empty in every[len(looked) :]:
        empty.set_axis_off()
    figure = axes[0].figure
    figure.suptitle(f"Attention of {_who(result, head)}", fontsize=TITLE)
    figure.colorbar(axes[0].images[0], ax=every, label="attention", shrink=0.8, aspect=30)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=SMALL, frameon=False)
    return tuple(axes)


def attention_by_distance(
    result: DistanceResult, heads: Sequence[Head] | None = None, k: int = 4, ax: Axes | None = None
) -> Axes:
    """The mean attention of heads to cells at each distance, with 95% intervals clustered by maze.

    The legend has the mean rank correlation of attention and distance within a prompt, over all cells but the query's
    own, with its interval.
    A point without an interval is of one maze alone.

    Args:
        result: of `maze.attention_by_distance`.
        heads: which heads; default those with the largest correlations.
        k: how many of these.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: something else than such a result, heads that are no list of its heads, or k below 1.
    """
    check_kind(result, DistanceResult, "this picture takes a result of maze.attention_by_distance")
    check_count(k, "k")
    places = _chosen(result, heads, k)
    means, x = result.attention_summary(), np.arange(result.attention.shape[-1], dtype=float)
    ax = axes_or_new(ax)
    for i, place in enumerate(places):
        mean, high = means.mean[place].double().numpy(), means.high[place].double().numpy()
        name = result.head_labels[place]
        shift = 0.3 * ((i + 0.5) / len(places) - 0.5)
        look = {"color": LINES[i % len(LINES)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4, "linewidth": 1.2}
        label = f"{name}: rank correlation {result.shown_correlation(name)}".replace("-", "\N{MINUS SIGN}")
        ax.errorbar(x + shift, mean, yerr=high - mean, elinewidth=1, capsize=2, label=label, **look)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(f"distance from the query's cell ({result.unit_of_distance})")
    ax.set_ylabel("mean attention to a token of a cell")
    quiet_frame(ax)
    query = {"read": "the last token"}.get(str(result.info.get("query")), f"the {result.info.get('query')}'s token")
    return titled_with_legend(ax, f"Attention from {query} by distance: {counted_about(result, 'prompt')}")


def _chosen(result: DistanceResult, heads: Sequence[Head] | None, k: int) -> list[int]:
    if heads is None:
        size = result.correlation_summary().mean.abs().nan_to_num(-1.0)
        return size.argsort(descending=True, stable=True)[:k].tolist()
    if isinstance(heads, str) or not isinstance(heads, Sequence) or not heads:
        raise InputError(f"heads is a list of heads, such as ['L5H3', (2, 1)], got {heads!r:.80}")
    return [result.index_of(head) for head in heads]


def _looked(
    result: AttentionResult, maze: MazeGeometry | Mazes, prompt: int, head: Head | None, query: Query
) -> _Looked:
    """The attention of the query, with the maze of its prompt, whose frame is around the query's cell."""
    check_kind(result, AttentionResult, TAKES)
    geometry = maze_of(result, maze, prompt)
    position = _position(geometry, query)
    chosen = slice(None) if head is None else slice(i := result.index_of(head), i + 1)
    attention = result.patterns[prompt, chosen, position].double().mean(0)
    values = by_cell(geometry, torch.where(torch.arange(len(attention)) <= position, attention, 0.0))
    return _Looked(
        replace(geometry, current=geometry.token_cells[position]), values, position, geometry.tokens[position]
    )


def _position(maze: MazeGeometry, query: object) -> int:
    """The position of the query in the prompt.

    Raises:
        InputError: neither a position nor a cell, or one that the prompt does not have.
    """
    n = len(maze.tokens)
    if query is None:
        return n - 1
    if whole_number(query) is not None:
        return check_whole("query", query, -n, n - 1) % n
    if isinstance(query, tuple | list) and len(query) == 2 and None not in map(whole_number, query):
        named = [i for i, cell in enumerate(maze.token_cells) if cell == tuple(map(whole_number, query))]
        if not named:
            raise InputError(f"query: no token of the prompt names the cell {tuple(query)}")
        return named[-1]
    raise InputError(f"query is None, a position, or a cell such as (2, 1), got {query!r:.80}")


def _draw(ax: Axes, looked: _Looked, limit: float | None) -> AxesImage:
    image = draw_maze(ax, looked.maze, looked.values, ATTENTION, 0, limit)
    for patch in ax.patches:
        if patch.get_label() == CURRENT:
            patch.set_label(OF_QUERY)
    return image


def _who(result: AttentionResult, head: Head | None) -> str:
    if head is not None:
        return f"head {result.head_labels[result.index_of(head)]}"
    n = len(result.head_labels)
    return f"{n} heads, on average" if n > 1 else f"head {', '.join(result.head_labels)}"


def _which(looked: _Looked) -> str:
    return f"{shown_token(looked.token, 16)} at position {looked.position}"


def _shares(looked: _Looked) -> str:
    return shares_in_words(looked.values, "{:.0%}".format)
