"""The strongest neurons."""

from __future__ import annotations

from matplotlib.axes import Axes

from maze_dla.errors import InputError
from maze_dla.plots._axes import NOTEBOOK_SIZE, axes_or_new, quiet_frame
from maze_dla.plots._checks import check_count
from maze_dla.plots._colours import INK, NEGATIVE, POSITIVE
from maze_dla.plots._words import counted, in_lines, metric_name
from maze_dla.results.attribution import AttributionResult

INCHES_PER_BAR = 0.17


def neurons(result: AttributionResult, ax: Axes | None = None, k: int = 20) -> Axes:
    """The `k` neurons with the largest mean contribution by size, strongest at the top, with 95% intervals.

    Raises:
        InputError: a result without neurons, or k below 1.
    """
    if result.neuron_mean is None or result.neuron_variance is None:
        raise InputError("this result has no neurons to draw: ask with attribute(..., neurons=True) or neurons='mean'")
    check_count(k, "k")
    ranked = result.top_neurons(k)
    width, height = NOTEBOOK_SIZE
    ax = axes_or_new(ax, (width, max(height, 1 + INCHES_PER_BAR * len(ranked))))
    ax.barh(
        range(len(ranked)),
        [part.mean for part in ranked],
        xerr=[part.high - part.mean for part in ranked],
        color=[POSITIVE if part.mean > 0 else NEGATIVE for part in ranked],
        error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
    )
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(range(len(ranked)), [part.name for part in ranked], fontsize=8)
    ax.set_ylim(len(ranked) - 0.4, -0.6)
    ax.set_xlabel("mean contribution (logits)")
    title = f"Strongest {counted(len(ranked), 'neuron')} of {result.neuron_mean.numel()}: {metric_name(result)}"
    ax.set_title(in_lines(title, 64), fontsize=10)
    quiet_frame(ax)
    return ax
