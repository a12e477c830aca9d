"""Several small mazes in one figure, with one title, one colour bar and one legend for all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from maze_dla.plots._axes import SMALL, TITLE, new_grid

MOST_COLUMNS = 4
WIDTH, HEIGHT, LEGEND = 2.5, 2.75, 1.4  # inches of a maze, and of the title and legend


def strip_of_axes(n: int) -> list[Axes]:
    """At least `n` axes in rows of a new figure."""
    columns = min(MOST_COLUMNS, n)
    rows = math.ceil(n / columns)
    grid = new_grid(rows, columns, (max(WIDTH * columns + 1.2, 6.4), HEIGHT * rows + LEGEND))
    return [ax for row in grid for ax in row]


def finish_strip(every: Sequence[Axes], used: int, title: str, unit: str) -> tuple[Axes, ...]:
    """The first axes, those that are used, once title, colour bar and legend are there and the others are hidden."""
    for empty in every[used:]:
        empty.set_axis_off()
    figure = every[0].figure
    figure.suptitle(title, fontsize=TITLE)
    figure.colorbar(every[0].images[0], ax=list(every), label=unit, shrink=0.8, aspect=30)
    handles, names = every[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=SMALL, frameon=False)
    return tuple(every[:used])
