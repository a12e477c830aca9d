from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from maze_dla import plots


def drawn_walls(ax):
    """Each inner wall as the pair of cells that it parts, and the border's corners."""
    (collection,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    inner, border = set(), set()
    for (x0, y0), (x1, y1) in collection.get_segments():
        if max(abs(x1 - x0), abs(y1 - y0)) > 1:
            border |= {(x0, y0), (x1, y1)}
        elif x0 == x1:
            row = int((y0 + y1) / 2)
            inner.add(frozenset([(row, int(x0 - 0.5)), (row, int(x0 + 0.5))]))
        else:
            column = int((x0 + x1) / 2)
            inner.add(frozenset([(int(y0 - 0.5), column), (int(y0 + 0.5), column)]))
    return inner, border


def neighbours(n):
    right = {frozenset([(r, c), (r, c + 1)]) for r, c in product(range(n), range(n - 1))}
    below = {frozenset([(r, c), (r + 1, c)]) for r, c in product(range(n - 1), range(n))}
    return right | below


def test_walls_stand_exactly_where_cells_are_not_connected(attribution, maze, ax):
    plots.maze_sources(attribution(), maze, ax=ax)
    inner, border = drawn_walls(ax)
    assert inner == neighbours(5) - {frozenset(passage) for passage in maze.connections}
    assert border == set(product((-0.5, 4.5), (-0.5, 4.5)))


def test_one_passage_more_is_one_wall_less(attribution, maze, ax):
    opened = replace(maze, connections=maze.connections | {((0, 0), (1, 0))})
    plots.maze_sources(attribution(), opened, ax=ax)
    inner, _ = drawn_walls(ax)
    assert frozenset([(0, 0), (1, 0)]) not in inner
    assert len(inner) == len(neighbours(5)) - len(opened.connections)


def test_cells_outside_the_corridor_are_grey_and_have_no_value(attribution, maze, ax):
    plots.maze_sources(attribution(), maze, ax=ax)
    grey = {
        (int(p.get_y() + 0.5), int(p.get_x() + 0.5)) for p in ax.patches if isinstance(p, Rectangle) and p.get_fill()
    }
    inside = {cell for passage in maze.connections for cell in passage}
    assert grey == set(product(range(5), range(5))) - inside
    assert {tuple(cell) for cell in np.argwhere(ax.images[0].get_array().mask)} == grey


def test_path_ends_and_current_cell(attribution, maze, ax):
    plots.maze_sources(attribution(), maze, ax=ax)
    lines = {line.get_label(): list(zip(line.get_ydata(), line.get_xdata(), strict=True)) for line in ax.lines}
    assert lines == {"solution path": list(maze.path), "origin": [(0, 0)], "target": [(4, 3)]}
    (frame,) = [p for p in ax.patches if p.get_label() == "current cell"]
    assert np.allclose((frame.get_y() + frame.get_height() / 2, frame.get_x() + frame.get_width() / 2), maze.current)
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert shown == ["solution path", "origin", "target", "current cell"]
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(maze.path))


def test_no_current_cell_no_frame(attribution, maze, ax):
    plots.maze_sources(attribution(), replace(maze, current=None), ax=ax)
    assert "current cell" not in [text.get_text() for text in ax.get_legend().get_texts()]


def test_row_zero_is_at_the_top(attribution, maze, ax):
    plots.maze_sources(attribution(), maze, ax=ax)
    bottom, top = ax.get_ylim()
    assert bottom > top
