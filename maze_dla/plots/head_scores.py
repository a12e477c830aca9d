"""Scores of heads as heat maps, layer by head, one for each relation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import SMALL, TITLE, cell_size, new_grid, number_columns, number_rows
from maze_dla.plots._colours import GREY, SIGNED, symmetric_limit
from maze_dla.plots._words import counted_about, in_lines, one_line
from maze_dla.plots.heat_map import CHARACTER, write_in_cell
from maze_dla.results.head_scores import HeadScores

MOST_COLUMNS = 4
WIDTH, HEIGHT, ABOVE = 2.5, 2.35, 0.9  # inches of a map, and of the title
CROSS = "\N{MULTIPLICATION SIGN}"
NAME_WIDTH = 30  # letters of a line above a map


def head_scores(scores: HeadScores, relations: Sequence[str] | None = None) -> tuple[Axes, ...]:
    """How far the attention of each head to the keys of a relation is above its baseline, one map for each relation.

    Colours are score minus baseline, which is named above each map, with one scale for all. The number in a cell is
    the score itself, in hundredths of the head's attention. A grey cross stands where a head is not above the baseline,
    with all heads and relations looked at together.

    Args:
        scores: of `head_scores`.
        relations: which relations; default all.

    Returns:
        The axes in a new figure, one for each relation.

    Raises:
        InputError: something else than such a result, or relations that are no list of its own.
    """
    check_kind(scores, HeadScores, "this picture takes a result of head_scores")
    numbers = _chosen(scores, relations)
    columns = min(MOST_COLUMNS, len(numbers))
    rows = math.ceil(len(numbers) / columns)
    grid = new_grid(rows, columns, (max(WIDTH * columns + 1.0, 6.4), HEIGHT * rows + ABOVE))
    every = [ax for row in grid for ax in row]
    axes = every[: len(numbers)]
    above = scores.above_summary().mean.double().numpy()
    limit = symmetric_limit(np.nan_to_num(above[numbers]))
    for ax, number in zip(axes, numbers, strict=True):
        _draw(ax, scores, number, above[number], limit)
    for empty in every[len(numbers) :]:
        empty.set_axis_off()
    figure = axes[0].figure
    queries = one_line(str(scores.info.get("queries", "all")))
    said = f"number: attention in hundredths; {CROSS}: not above the baseline"
    figure.suptitle(
        f"Attention of heads by relation, queries: {queries}, {counted_about(scores, 'prompt')}\n({said})",
        fontsize=TITLE,
    )
    figure.colorbar(axes[0].images[0], ax=every, label="attention above the baseline", shrink=0.8, aspect=30)
    return tuple(axes)


def _chosen(scores: HeadScores, relations: Sequence[str] | None) -> list[int]:
    if relations is None:
        return list(range(len(scores.relations)))
    if isinstance(relations, str) or not isinstance(relations, Sequence) or not relations:
        raise InputError(f"relations is a list of names, such as {list(scores.relations[:2])}, got {relations!r:.80}")
    if unknown := [name for name in relations if name not in scores.relations]:
        raise InputError(f"no relation {unknown[0]!r:.60}, there are {', '.join(scores.relations)}")
    return [scores.relations.index(name) for name in relations]


def _draw(ax: Axes, scores: HeadScores, number: int, above: np.ndarray, limit: float) -> None:
    """One map: colours above the baseline, the scores as numbers, and crosses."""
    image = ax.imshow(above, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    ax.tick_params(length=0)
    number_columns(ax, above.shape[1])
    number_rows(ax, above.shape[0])
    ax.set(xlabel="head", ylabel="layer")
    name = in_lines(one_line(scores.relations[number]), NAME_WIDTH)
    ax.set_title(f"{name}\nagainst {scores.against[number]}", fontsize=SMALL)
    width, height = cell_size(ax, *above.shape)
    size, held = scores.summary().mean[number].double().numpy(), scores.is_above[number]
    letters = max(4.5, min(8.0, 0.9 * width / (CHARACTER * 3), 0.75 * height))
    for layer, head in np.ndindex(above.shape):
        if not bool(held[layer, head]):
            ax.text(head, layer, CROSS, ha="center", va="center", fontsize=letters, color=GREY)
        elif math.isfinite(size[layer, head]):
            write_in_cell(image, layer, head, f"{100 * size[layer, head]:.0f}", letters)
