"""Scatters of `mlp_outliers`, one point a layer and position: what its MLP matters, and how far a neuron stands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import AXIS_NAME, axes_or_new, label_x, quiet_frame, titled_with_legend
from maze_dla.plots._checks import check_count
from maze_dla.plots._colours import BLUE, GREY, INK, VERMILION
from maze_dla.plots._points import name_points
from maze_dla.plots._words import counted_about, in_lines, one_line
from maze_dla.results.outliers import MlpOutliersResult, OutlierPosition

SIZE = (6.0, 5.2)
TAKES = "this picture takes a result of mlp_outliers"
LONGEST = 14  # letters of a token's name


def mlp_outliers(result: MlpOutliersResult, ax: Axes | None = None, label: int | None = None) -> Axes:
    """The loss increase of each layer and position once its MLP's activation is zero, against 1 / (max - mean).

    The score is the product of both: the positions with the largest are marked and named by their tokens and layers,
    and random positions are marked beside them. Positions to the right may just have small activations. Not drawn are
    last positions, which have no next token, and positions whose neurons are all the same.

    Args:
        result: of `mlp_outliers`.
        ax: where to draw; a new figure by default.
        label: how many positions are named; default the `k` of the result.

    Raises:
        InputError: something else than this, no position to draw, or a negative `label`.
    """
    top, control = _marked(result, label)
    ax = axes_or_new(ax, SIZE)
    x, y = result.inverse_outlier[result.ranked], result.loss_increase[result.ranked]
    groups = {BLUE: ("random positions", control), VERMILION: ("largest scores", top)}
    _draw(ax, np.stack([x.numpy(), y.numpy()], 1), {c: (name, _scores(rows)) for c, (name, rows) in groups.items()})
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    _in_decades(ax, "x")
    label_x(ax, "inverse outlier score 1 / (max - mean) over neurons" + (", before the norm" if result.normed else ""))
    ax.set_ylabel(in_lines("loss increase once the MLP's activation is zero (nats)", 40), fontsize=AXIS_NAME)
    _name(ax, _scores(top), top)
    return titled_with_legend(ax, f"MLPs by loss and outlier score: {counted_about(result, 'prompt')}")


def mlp_outliers_after_norm(result: MlpOutliersResult, ax: Axes | None = None, label: int | None = None) -> Axes:
    """The outlier score max - mean of each layer and position after the norm inside the MLP, against that before it.

    On the diagonal the norm leaves it as it was, as it does where there is none; above it the norm makes it larger.

    Args:
        result: of `mlp_outliers`.
        ax: where to draw; a new figure by default.
        label: how many positions with the largest scores are named; default the `k` of the result.

    Raises:
        InputError: something else than this, no position to draw, or a negative `label`.
    """
    top, control = _marked(result, label)
    ax = axes_or_new(ax, SIZE)
    x, y = result.outlier[result.ranked], result.outlier_after[result.ranked]
    groups = {BLUE: ("random positions", control), VERMILION: ("largest scores", top)}
    _draw(ax, np.stack([x.numpy(), y.numpy()], 1), {c: (name, _sides(rows)) for c, (name, rows) in groups.items()})
    _in_decades(ax, "xy")
    middle = float(x.double().log().mean().exp())
    ax.axline(
        (middle, middle),
        (2 * middle, 2 * middle),
        color=INK,
        linewidth=1,
        linestyle=(0, (4, 3)),
        label="same before and after",
    )
    label_x(ax, "outlier score max - mean before the norm inside the MLP")
    ax.set_ylabel(in_lines("outlier score max - mean after it", 60), fontsize=AXIS_NAME)
    _name(ax, _sides(top), top)
    what = "Outlier scores before and after the norm" if result.normed else "No norm inside the MLP: scores stay"
    return titled_with_legend(ax, f"{what}: {counted_about(result, 'prompt')}")


def _marked(result: object, label: int | None) -> tuple[list[OutlierPosition], list[OutlierPosition]]:
    """The positions with the largest scores, and random ones."""
    check_kind(result, MlpOutliersResult, TAKES)
    assert isinstance(result, MlpOutliersResult)
    top = result.top(None if label is None else check_count(label, "label", least=0))
    if not bool(result.ranked.any()):
        raise InputError("no position can be drawn: all are last ones, or have neurons that are all the same")
    return top, result.control


def _scores(rows: Sequence[OutlierPosition]) -> Float[np.ndarray, "row 2"]:
    return np.array([(1 / row.outlier, row.loss_increase) for row in rows]).reshape(-1, 2)


def _sides(rows: Sequence[OutlierPosition]) -> Float[np.ndarray, "row 2"]:
    return np.array([(row.outlier, row.outlier_after) for row in rows]).reshape(-1, 2)


def _draw(
    ax: Axes, points: Float[np.ndarray, "point 2"], marked: dict[str, tuple[str, Float[np.ndarray, "row 2"]]]
) -> None:
    """All points in light grey, and the marked ones in their colours."""
    ax.scatter(*points.T, color=GREY, s=6, alpha=0.35, linewidth=0, zorder=1, rasterized=True, label="all positions")
    for colour, (name, chosen) in marked.items():
        if len(chosen):
            ax.scatter(*chosen.T, color=colour, s=18, linewidth=0, zorder=3, label=f"{len(chosen)} {name}")
    ax.margins(0.08)
    quiet_frame(ax)


def _in_decades(ax: Axes, axes: str) -> None:
    """Logarithmic axes with plain numbers, which need no fonts of formulas."""
    for name in axes:
        getattr(ax, f"set_{name}scale")("log")
        axis: Any = getattr(ax, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _name(ax: Axes, points: Float[np.ndarray, "row 2"], rows: Sequence[OutlierPosition]) -> None:
    """Tokens and layers beside their points; the axes' limits stand by now."""
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())
    if len(rows):
        name_points(ax, points, [f"{_short(row.token)} L{row.layer}" for row in rows])


def _short(token: str) -> str:
    """A token on one line, cut where it is long."""
    shown = one_line(token) or repr(token)[1:-1]
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
