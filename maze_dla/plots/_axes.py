"""Where a picture goes: the caller's axes, or a new figure of a notebook's size."""

from __future__ import annotations

from matplotlib.axes import Axes

NOTEBOOK_SIZE = (6.4, 4.2)  # inches
POINTS_PER_INCH = 72
ROOM_FOR_SIDES = 0.85  # of the axes' size, once colour bar and tick labels have taken theirs


def axes_or_new(ax: Axes | None, size: tuple[float, float] = NOTEBOOK_SIZE) -> Axes:
    """The axes that were given, or those of a new figure."""
    return new_axes(1, size)[0] if ax is None else ax


def new_axes(columns: int, size: tuple[float, float]) -> tuple[Axes, ...]:
    """Axes side by side in a new figure, which notebooks show at the end of a cell."""
    return new_grid(1, columns, size)[0]


def new_grid(rows: int, columns: int, size: tuple[float, float]) -> tuple[tuple[Axes, ...], ...]:
    """Axes in rows and columns of a new figure, [row][column]."""
    from matplotlib import pyplot as plt  # here, since importing it chooses a backend

    _, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    return tuple(tuple(row) for row in axes)


def cell_size(ax: Axes, rows: int, columns: int) -> tuple[float, float]:
    """About how wide and high, in points, a cell of a grid in these axes will be."""
    box = ax.get_window_extent()
    scale = POINTS_PER_INCH / ax.figure.dpi * ROOM_FOR_SIDES
    return box.width * scale / columns, box.height * scale / rows


def name_ticks(ax: Axes, names: list[str]) -> None:
    """Words under the x axis, slanted where there is room and upright where there are many."""
    many = len(names) > 16
    ax.set_xticks(range(len(names)), names, fontsize=7.5 if many else 8)
    for label in ax.get_xticklabels():
        label.set(
            rotation=90 if many else 45, ha="center" if many else "right", rotation_mode="default" if many else "anchor"
        )


def quiet_frame(ax: Axes) -> None:
    """Remove the lines at the top and on the right."""
    ax.spines[["top", "right"]].set_visible(False)
