"""Several results in the same layout."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from maze_dla.errors import check_kind
from maze_dla.plots._axes import new_grid
from maze_dla.plots._words import in_lines, one_line
from maze_dla.plots.bars import layers, source_kinds
from maze_dla.plots.curves import lens
from maze_dla.plots.heat_map import heads
from maze_dla.results.comparison import Comparison

COLUMN_WIDTH, ROW_HEIGHT, WIDEST = 6.6, 4.0, 15.0  # inches
MOST_COLUMNS = 3


def comparison(compared: Comparison) -> tuple[tuple[Axes, ...], ...]:
    """A column for each result: lens, layers, heads and, where they were asked for, kinds of sources; a new figure.

    At most three results stand side by side, further ones below them, so that all can be read on a page.

    Returns:
        The axes, [picture][result], wherever they stand.

    Raises:
        InputError: something else than what `compare` returns.
    """
    check_kind(compared, Comparison, "this picture takes what compare returns")
    n = len(compared.results)
    n_pictures = 4 if any(r.kinds for r in compared.results) else 3
    bands = math.ceil(n / MOST_COLUMNS)
    columns = math.ceil(n / bands)
    size = (min(COLUMN_WIDTH * columns, WIDEST), ROW_HEIGHT * n_pictures * bands)
    grid = new_grid(n_pictures * bands, columns, size)
    for empty in range(n, bands * columns):
        for picture in range(n_pictures):
            grid[empty // columns * n_pictures + picture][empty % columns].set_axis_off()
    axes = tuple(
        tuple(grid[i // columns * n_pictures + picture][i % columns] for i in range(n)) for picture in range(n_pictures)
    )
    for column, (result, name) in enumerate(zip(compared.results, compared.names, strict=True)):
        lens(result, ax=axes[0][column])
        layers(result, ax=axes[1][column])
        heads(result, ax=axes[2][column])
        if result.kinds:
            source_kinds(result, ax=axes[3][column])
        elif n_pictures == 4:
            axes[3][column].set_axis_off()
        title = axes[0][column].title
        title.set_text(f"{in_lines(one_line(name), 60 * 2 // max(columns, 2))}\n\n{title.get_text()}")
    return axes
