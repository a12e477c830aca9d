"""The strongest neurons."""

from __future__ import annotations

from matplotlib.axes import Axes

from maze_dla.plots._axes import NOTEBOOK_SIZE, axes_or_new, name_rows, quiet_frame, titled
from maze_dla.plots._checks import check_count, check_summaries
from maze_dla.plots._colours import INK, NEGATIVE, POSITIVE
from maze_dla.plots._words import counted, metric_name
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.streamed import StreamedResult

INCHES_PER_BAR = 0.17


def neurons(result: AttributionResult | StreamedResult, ax: Axes | None = None, k: int = 20) -> Axes:
    """The `k` neurons with the largest mean contribution by size, strongest at the top, with 95% intervals.

    Raises:
        InputError: something else than a result of `attribute` or a stream of them, one without neurons, or k below 1.
    """
    check_summaries(result)
    check_count(k, "k")
    n_neurons = result.neuron_summary().mean.numel()
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
    name_rows(ax, [part.name for part in ranked])
    ax.set_ylim(len(ranked) - 0.4, -0.6)
    ax.set_xlabel("mean contribution (logits)")
    quiet_frame(ax)
    return titled(ax, f"Strongest {counted(len(ranked), 'neuron')} of {n_neurons}: {metric_name(result)}")
