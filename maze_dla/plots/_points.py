"""Names beside points, where they cover neither each other nor other points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from maze_dla.plots._axes import LETTER, LINE, size_in_points
from maze_dla.plots._colours import INK

SIZE, GAP = 8.0, 5.0  # of the letters, and points between them and their point
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
Box = tuple[float, float, float, float]


def name_points(ax: Axes, points: Float[np.ndarray, "point 2"], names: Sequence[str | None]) -> None:
    """The names of some points, each on the side where it covers least; the axes' limits must stand by now."""
    shares = (ax.transData - ax.transAxes).transform(points)  # of the axes' width and height, on any scale
    places = shares * np.array(size_in_points(ax)) * 0.8
    taken: list[Box] = [(x - 3, y - 3, x + 3, y + 3) for x, y in places.tolist()]
    for point, (x, y), name in zip(points.tolist(), places.tolist(), names, strict=True):
        if name is None:
            continue
        boxes = [_box(x, y, len(name), reach * GAP, side) for reach in (1, 3) for side in SIDES]
        covered = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = int(np.argmin(covered))
        taken.append(boxes[best])
        (right, up), reach = SIDES[best % len(SIDES)], (1, 3)[best // len(SIDES)] * GAP
        ax.annotate(
            name,
            point,
            xytext=(right * reach, up * reach),
            textcoords="offset points",
            ha={1: "left", 0: "center", -1: "right"}[right],
            va={1: "bottom", 0: "center", -1: "top"}[up],
            fontsize=SIZE,
            color=INK,
            zorder=5,
        )


def _box(x: float, y: float, letters: int, gap: float, side: tuple[int, int]) -> Box:
    """Where a name of so many letters stands on a side of a point: left, bottom, right, top, in points."""
    width, height = letters * SIZE * LETTER * 1.1, SIZE * LINE
    left = x + (gap if side[0] > 0 else -width - gap if side[0] < 0 else -width / 2)
    bottom = y + (gap if side[1] > 0 else -height - gap if side[1] < 0 else -height / 2)
    return left, bottom, left + width, bottom + height


def _overlap(one: Box, two: Box) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    return max(width, 0.0) * max(height, 0.0)
