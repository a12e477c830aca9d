"""A lattice maze: its cells in colour, its walls, its path."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke

from maze_dla.geometry import Cell, MazeGeometry, Passage
from maze_dla.plots._axes import cell_size
from maze_dla.plots._colours import INK

Segment = tuple[tuple[float, float], tuple[float, float]]
OUTSIDE, GOLD, LIME, BAR_EDGE = "#A6A6A6", "#FFD92F", "#00E0A4", "#8C8C8C"


def draw_maze(
    ax: Axes,
    maze: MazeGeometry,
    values: Float[np.ndarray, "row column"],
    passages: dict[Passage, float] | None = None,
    *,
    cmap: str | Colormap,
    limits: tuple[float, float],
) -> AxesImage:
    """The maze with row 0 at the top and each cell coloured by its value; cells without passages are grey."""
    outside = np.array([[not _passages(maze, (r, c)) for c in range(maze.columns)] for r in range(maze.rows)])
    shown = np.ma.masked_array(values, outside)
    image = ax.imshow(shown, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="equal", origin="upper", zorder=1)
    for row, column in np.argwhere(outside):
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=OUTSIDE, linewidth=0, zorder=1.5))
    if passages:
        _draw_passages(ax, passages, image)
    ax.add_collection(LineCollection(walls(maze), colors=INK, linewidths=3, capstyle="projecting", zorder=3))
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


def walls(maze: MazeGeometry) -> list[Segment]:
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
        _mark(ax, maze.origin, "origin", marker="o", color="white", size=min(9.0, 0.3 * size))
        _mark(ax, maze.target, "target", marker="*", color=GOLD, size=min(15.0, 0.5 * size))
    if maze.current is not None:
        row, column = maze.current
        frame = Rectangle((column - 0.36, row - 0.36), 0.72, 0.72, fill=False, zorder=5, label="current cell")
        frame.set(edgecolor=LIME, linewidth=2.4, path_effects=[withStroke(linewidth=4, foreground=INK), Normal()])
        ax.add_patch(frame)


def _mark(ax: Axes, cell: Cell, label: str, *, marker: str, color: str, size: float) -> None:
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
