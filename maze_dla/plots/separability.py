"""Separability: the probe's accuracy over depth beside its controls, and principal components depth by depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import (
    AXIS_NAME,
    SMALL,
    TITLE,
    axes_or_new,
    name_columns,
    new_grid,
    quiet_frame,
    titled_with_legend,
)
from maze_dla.plots._colours import BLUE, GREEN, GREY, INK, LINES, PURPLE, VERMILION
from maze_dla.plots._words import counted, counted_things, in_lines, one_line
from maze_dla.results.separability import RANDOM, SeparabilityResult
from maze_dla.results.words import written_after

TAKES = "this picture takes a result of separability"
BASELINE_COLOURS = {"embeddings": GREEN, "length": PURPLE}
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
PANEL = (2.5, 2.4)  # inches of one depth
MOST_COLUMNS = 4
SIZE = (6.4, 4.6)  # inches


def probe_accuracy(result: SeparabilityResult, ax: Axes | None = None) -> Axes:
    """Balanced accuracy of the held-out probe at each depth with its 95% interval, beside chance and every control.

    The grey band reaches from the lowest to the highest of the permuted labels; a line for the mean over models with
    random weights, and one for each of the baselines, embeddings and length.

    Raises:
        InputError: something else than a result of `separability`.
    """
    check_kind(result, SeparabilityResult, TAKES)
    ax = axes_or_new(ax, SIZE)
    x, summary = np.arange(len(result.depths)), result.accuracy
    ax.axhline(result.chance, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1, label="chance")
    if n := len(result.shuffled):
        ends = result.shuffled.amin(0).numpy(), result.shuffled.amax(0).numpy()
        label = f"shuffled labels (range of {n})"
        ax.fill_between(x, *ends, color=GREY, alpha=0.3, linewidth=0, zorder=1, label=label)
    for name, colour in BASELINE_COLOURS.items():
        mean = float(result.baseline(name).mean)
        ax.axhline(mean, color=colour, linewidth=1.2, linestyle=(0, (1, 1.5)), zorder=2, label=f"{name} alone")
    if RANDOM in result.controls:
        label = f"random weights (mean of {len(result.random)})"
        ax.plot(x, result.random.mean(0).numpy(), color=VERMILION, marker="s", markersize=3.5, zorder=3, label=label)
    ax.plot(x, summary.mean.numpy(), color=BLUE, marker="o", markersize=3.5, linewidth=1.8, zorder=4, label="probe")
    low, high = summary.low.numpy(), summary.high.numpy()
    ax.fill_between(x, low, high, color=BLUE, alpha=0.2, linewidth=0, zorder=3, label="95% interval")
    name_columns(ax, [written_after(depth) for depth in result.depths])
    ax.set_ylabel("balanced accuracy, held out", fontsize=AXIS_NAME)
    ax.margins(x=0.02)
    quiet_frame(ax)
    return titled_with_legend(ax, f"{_question(result)}: {counted_things(len(result), result.clusters, result.info)}")


def principal_components(
    result: SeparabilityResult, depths: Sequence[str] | None = None, axes: Sequence[Axes] | None = None
) -> tuple[Axes, ...]:
    """The prompts along the first two principal components, a panel for each depth, coloured by class.

    The share of the variance that each component explains stands at its axis. Components are found without the classes:
    classes that lie apart here do so along the largest differences between prompts, and a probe may find them where
    they do not.

    Args:
        result: of `separability`.
        depths: which of `result.depths`; all by default.
        axes: one for each depth; a new figure by default.

    Raises:
        InputError: something else than a result of `separability`, a depth that it does not have, or another number of
            axes than of depths.
    """
    check_kind(result, SeparabilityResult, TAKES)
    chosen = _depths(result, depths)
    drawn = _new_panels(len(chosen)) if axes is None else _given(axes, len(chosen))
    for number, (ax, depth) in enumerate(zip(drawn, chosen, strict=True)):
        _panel(ax, result, result.depths.index(depth), named=number == 0)
    if axes is None:
        handles, names = drawn[0].get_legend_handles_labels()
        figure: Any = drawn[0].figure
        figure.legend(
            handles, names, loc="outside lower center", ncols=min(len(names), 4), fontsize=SMALL, frameon=False
        )
        figure.suptitle(in_lines(_question(result), 70), fontsize=TITLE)
    return drawn


def _question(result: SeparabilityResult) -> str:
    return one_line(str(result.info.get("question", "classes")))


def _depths(result: SeparabilityResult, depths: Sequence[str] | None) -> list[str]:
    if depths is None:
        return list(result.depths)
    if isinstance(depths, str) or not isinstance(depths, Sequence) or not depths:
        raise InputError(f"depths are a list of some of {', '.join(result.depths)}, got {depths!r:.60}")
    if unknown := [depth for depth in depths if depth not in result.depths]:
        raise InputError(f"depths are some of {', '.join(result.depths)}, got {unknown[0]!r:.60}")
    return list(depths)


def _given(axes: Any, n: int) -> tuple[Axes, ...]:
    listed = list(axes.flatten()) if hasattr(axes, "flatten") else axes
    if not isinstance(listed, list | tuple) or not all(isinstance(ax, Axes) for ax in listed) or len(listed) != n:
        raise InputError(f"axes is a list with an Axes for each of {counted(n, 'depth')}, got {axes!r:.60}")
    return tuple(listed)


def _new_panels(n: int) -> tuple[Axes, ...]:
    """Axes in rows; places that are left over stay empty."""
    columns = min(n, MOST_COLUMNS)
    rows = math.ceil(n / columns)
    size = (PANEL[0] * columns, PANEL[1] * rows + 0.7)
    listed = [ax for row in new_grid(rows, columns, size) for ax in row]
    for ax in listed[n:]:
        ax.remove()
    return tuple(listed[:n])


def _panel(ax: Axes, result: SeparabilityResult, depth: int, *, named: bool) -> None:
    """The prompts of one depth; classes are told by colour and mark."""
    for k, name in enumerate(result.classes):
        points = result.coordinates[result.class_of == k, depth].numpy()
        colour, mark = LINES[k % len(LINES)], MARKS[k % len(MARKS)]
        label = one_line(name) if named else None
        ax.scatter(*points.T, s=9, color=colour, marker=mark, alpha=0.55, linewidth=0, label=label)
    first, second = (f"{share:.0%}" for share in result.explained[depth].tolist())
    ax.set_xlabel(f"component 1 ({first})", fontsize=SMALL)
    ax.set_ylabel(f"component 2 ({second})", fontsize=SMALL)
    ax.set_title(one_line(written_after(result.depths[depth])), fontsize=AXIS_NAME)
    ax.tick_params(labelsize=SMALL - 1)
    ax.locator_params(nbins=4)
    quiet_frame(ax)
