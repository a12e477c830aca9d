"""Where a picture goes: the caller's axes, or a new figure of a notebook's size, and room for all that is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.transforms import Bbox

from maze_dla.errors import check_kind
from maze_dla.plots._words import in_lines

NOTEBOOK_SIZE = (6.4, 4.2)  # inches
POINTS_PER_INCH = 72
ROOM_FOR_SIDES = 0.85  # of the axes' size, once colour bar and tick labels have taken theirs
LETTER = 0.56  # about the width of a letter, in font sizes
TITLE_LETTER = 0.59  # the same with some room to spare: titles stand above the middle of the axes, not of their room
LINE = 1.25  # height of a line, in font sizes
LEAST_SHARE = 0.2  # of its room that a picture keeps, however much is written around it
TITLE, AXIS_NAME, SMALL, TINY = 10.0, 9.0, 8.0, 7.5  # font sizes
SLANTED = 2.0  # font sizes between words, below which they do not fit slanted
BAR_WIDTH, BAR_GAP = 11.0, 8.0  # of a colour bar, in points
LEGEND_SIDES = 34.0  # what a legend's entry takes beside its words, in points


def axes_or_new(ax: Axes | None, size: tuple[float, float] = NOTEBOOK_SIZE) -> Axes:
    """The axes that were given, where all that is written around them will stay in their room; or new ones.

    Raises:
        InputError: something else than axes.
    """
    check_kind(ax, Axes | None, "ax is an Axes of matplotlib, or None for a new figure")
    ax = new_axes(1, size)[0] if ax is None else ax
    if ax.get_axes_locator() is None:
        ax.set_axes_locator(_Inside(ax))
    return ax


def new_axes(columns: int, size: tuple[float, float]) -> tuple[Axes, ...]:
    """Axes side by side in a new figure, which notebooks show at the end of a cell."""
    return new_grid(1, columns, size)[0]


def new_grid(rows: int, columns: int, size: tuple[float, float]) -> tuple[tuple[Axes, ...], ...]:
    """Axes in rows and columns of a new figure, [row][column]."""
    from matplotlib import pyplot as plt  # here, since importing it chooses a backend

    _, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    return tuple(tuple(row) for row in axes)


class _Inside:
    """The place of axes such that their labels, title, legend and colour bar stay in the room that the axes were given.

    matplotlib asks for it whenever it draws. A figure that lays its axes out by itself has made that room already.
    """

    def __init__(self, ax: Axes) -> None:
        self._ax = ax
        self._measuring = False

    def get_subplotspec(self) -> Any:
        """Where in a grid the axes are: matplotlib's tight layout asks the locator for it."""
        return self._ax.get_subplotspec()

    def __call__(self, ax: Any, renderer: Any) -> Bbox:
        room = ax.get_position(original=True)
        if self._measuring or ax.figure.get_layout_engine() is not None:
            return room
        self._measuring = True
        try:
            ax.apply_aspect(room)
            inner, outer = ax.get_window_extent(renderer), ax.get_tightbbox(renderer, for_layout_only=True)
        finally:
            self._measuring = False
        return room if outer is None else _within(ax, room, inner, outer)


def _within(ax: Axes, room: Bbox, inner: Bbox, outer: Bbox) -> Bbox:
    """The room without what is written around the axes, of which a part is always left."""
    to_pixels = ax.figure.transSubfigure
    pixels = room.transformed(to_pixels)
    left, bottom = max(inner.x0 - outer.x0, 0.0), max(inner.y0 - outer.y0, 0.0)
    right, top = max(outer.x1 - inner.x1, 0.0), max(outer.y1 - inner.y1, 0.0)
    wide = min(1.0, (1 - LEAST_SHARE) * pixels.width / max(left + right, 1e-9))
    high = min(1.0, (1 - LEAST_SHARE) * pixels.height / max(bottom + top, 1e-9))
    place = (pixels.x0 + left * wide, pixels.y0 + bottom * high, pixels.x1 - right * wide, pixels.y1 - top * high)
    return Bbox.from_extents(*place).transformed(to_pixels.inverted())


def size_in_points(ax: Axes) -> tuple[float, float]:
    """Width and height of the room that axes were given."""
    return _in_points(ax, ax.get_position(original=True))


def _in_points(ax: Axes, place: Bbox) -> tuple[float, float]:
    box = place.transformed(ax.figure.transSubfigure)
    scale = POINTS_PER_INCH / ax.figure.dpi
    return box.width * scale, box.height * scale


def cell_size(ax: Axes, rows: int, columns: int) -> tuple[float, float]:
    """How wide and high, in points, a cell of a grid in these axes will be, once all around them is there."""
    locate = ax.get_axes_locator()
    if ax.figure.get_layout_engine() is None and isinstance(locate, _Inside):
        width, height = _in_points(ax, locate(ax, None))
    else:  # a guess: the figure lays them out when it is drawn
        width, height = (ROOM_FOR_SIDES * size for size in size_in_points(ax))
    return width / columns, height / rows


def colour_bar(ax: Axes, image: AxesImage, label: str, *, extend: str = "neither", height: float | None = None) -> None:
    """A colour bar on the right, as high as the axes: about `height` points, else most of their room."""
    width, room = size_in_points(ax)
    bar = ax.inset_axes((1 + BAR_GAP / width, 0, BAR_WIDTH / width, 1))
    ax.figure.colorbar(image, cax=bar, extend=extend)
    height = room * ROOM_FOR_SIDES if height is None else height
    bar.set_ylabel(in_lines(label, max(12, int(height / (9 * LETTER)))), fontsize=9)
    bar.tick_params(labelsize=SMALL)


def label_x(ax: Axes, words: str) -> None:
    """A name of the x axis in as many lines as the width needs."""
    width = max(18, int(size_in_points(ax)[0] * ROOM_FOR_SIDES / (AXIS_NAME * TITLE_LETTER)))
    ax.set_xlabel(in_lines(words, width), fontsize=AXIS_NAME)


def titled(ax: Axes, title: str, *, above: float = 0.0) -> Axes:
    """The title in as many lines as the width needs, with so many points left between it and the axes."""
    width = max(18, int(size_in_points(ax)[0] / (TITLE * TITLE_LETTER)))
    ax.set_title(in_lines(title, width), fontsize=TITLE, pad=6 + above)
    return ax


def titled_with_legend(ax: Axes, title: str, handles: Sequence[Artist] | None = None) -> Axes:
    """The legend above the axes, where it covers nothing, and the title above it."""
    handles, names = ax.get_legend_handles_labels() if handles is None else (handles, [h.get_label() for h in handles])
    width = size_in_points(ax)[0]
    names = [in_lines(str(name), max(14, int((width - LEGEND_SIDES) / (SMALL * LETTER)))) for name in names]
    columns = legend_columns(names, width)
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    lines = sum(max(name.count("\n") + 1 for name in row) for row in rows)
    ax.legend(
        handles,
        names,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        borderaxespad=0.2,
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
    )
    return titled(ax, title, above=lines * SMALL * LINE + len(rows) * 4)


def legend_columns(names: Sequence[str], width: float, sides: float = LEGEND_SIDES) -> int:
    """How many entries of a legend stand side by side in so many points, each with `sides` beside its words."""
    longest = max((len(line) for name in names for line in name.split("\n")), default=1)
    return max(1, min(len(names), int(width / (longest * SMALL * LETTER + sides))))


def name_columns(ax: Axes, names: Sequence[str]) -> None:
    """Words under the x axis: slanted where there is room, upright where there are many, not all where too many."""
    spacing = size_in_points(ax)[0] * ROOM_FOR_SIDES / max(len(names), 1)
    many = spacing < SMALL * SLANTED
    shown = _shown(len(names), TINY * 1.15 / spacing)
    ax.set_xticks(shown, [names[i] for i in shown], fontsize=TINY if many else SMALL)
    for label in ax.get_xticklabels():
        label.set(
            rotation=90 if many else 45, ha="center" if many else "right", rotation_mode="default" if many else "anchor"
        )


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Words beside the y axis, some of them where there are too many for the height."""
    shown = _shown(len(names), SMALL * 1.1 * len(names) / (size_in_points(ax)[1] * ROOM_FOR_SIDES))
    ax.set_yticks(shown, [names[i] for i in shown], fontsize=SMALL)


def number_columns(ax: Axes, n: int, start: int = 0) -> None:
    """Numbers from `start` under the x axis, some of them where there are too many for the width; 0 is among them."""
    width = SMALL * (LETTER * max(len(str(start)), len(str(start + n - 1))) + 0.6)
    shown = _shown(n, width * n / (size_in_points(ax)[0] * ROOM_FOR_SIDES), first=start == 0)
    ax.set_xticks(shown, [str(start + i).replace("-", "\N{MINUS SIGN}") for i in shown], fontsize=SMALL)


def number_rows(ax: Axes, n: int) -> None:
    """Numbers from 0 beside the y axis, some of them where there are too many for the height."""
    shown = _shown(n, SMALL * 1.1 * n / (size_in_points(ax)[1] * ROOM_FOR_SIDES), first=True)
    ax.set_yticks(shown, [str(i) for i in shown], fontsize=SMALL)


def _shown(n: int, crowded: float, *, first: bool = False) -> list[int]:
    """Which of `n` are named where so many share the room of one: every second, every third, ...; the last always."""
    step = max(1, math.ceil(crowded))
    return list(range(0, n, step)) if first else list(range(n - 1, -1, -step))[::-1]


def quiet_frame(ax: Axes) -> None:
    """Remove the lines at the top and on the right."""
    ax.spines[["top", "right"]].set_visible(False)
