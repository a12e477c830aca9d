"""Several results in the same layout."""

from __future__ import annotations

from matplotlib.axes import Axes

from maze_dla.plots._axes import new_grid
from maze_dla.plots._words import in_lines, plain
from maze_dla.plots.head_grid import heads
from maze_dla.plots.layer_bars import layers
from maze_dla.plots.lens_curves import lens
from maze_dla.plots.source_kinds import source_kinds
from maze_dla.results.comparison import Comparison

COLUMN_WIDTH, ROW_HEIGHT = 6.6, 4.0  # inches


def comparison(compared: Comparison) -> tuple[tuple[Axes, ...], ...]:
    """A column for each result: lens, layers, heads and, where they were asked for, kinds of sources; a new figure.

    Returns:
        The axes, [row][result].
    """
    n = len(compared.results)
    rows = 4 if any(r.sources_by_kind is not None for r in compared.results) else 3
    axes = new_grid(rows, n, (COLUMN_WIDTH * n, ROW_HEIGHT * rows))
    for column, (result, name) in enumerate(zip(compared.results, compared.names, strict=True)):
        lens(result.lens(), ax=axes[0][column])
        layers(result, ax=axes[1][column])
        heads(result, ax=axes[2][column])
        if result.sources_by_kind is not None:
            source_kinds(result, ax=axes[3][column])
        elif rows == 4:
            axes[3][column].set_axis_off()
        top = axes[0][column]
        top.set_title(f"{in_lines(plain(name), 60)}\n\n{top.get_title()}", fontsize=10)
    return axes
