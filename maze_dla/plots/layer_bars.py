"""The contribution of every layer component."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from maze_dla.plots._axes import axes_or_new, name_columns, quiet_frame, titled_with_legend
from maze_dla.plots._checks import check_summaries
from maze_dla.plots._colours import INK, KINDS
from maze_dla.plots._words import component_kind, component_name, metric_name, signed
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.streamed import StreamedResult


def layers(result: AttributionResult | StreamedResult, ax: Axes | None = None) -> Axes:
    """A bar for each layer component and the constant, with 95% intervals over prompts; the bars sum to the metric.

    Raises:
        InputError: something else than a result of `attribute` or a stream of them.
    """
    check_summaries(result)
    names = [*map(component_name, result.components), "constant"]
    kinds = [*map(component_kind, result.components), "constant"]
    parts, constant = result.layer_summary(), result.constant_summary()
    mean, high = (
        np.append(getattr(parts, which).numpy(), float(getattr(constant, which))) for which in ("mean", "high")
    )
    ax = axes_or_new(ax)
    ax.bar(
        range(len(names)),
        mean,
        color=[KINDS[kind] for kind in kinds],
        yerr=high - mean,
        error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
    )
    ax.axhline(0, color=INK, linewidth=0.8)
    name_columns(ax, names)
    ax.margins(x=0.01)
    ax.set_ylabel("mean contribution (logits)")
    total = float(result.metric_summary().mean)
    quiet_frame(ax)
    shown = [Patch(color=colour, label=kind) for kind, colour in KINDS.items() if kind in kinds]
    return titled_with_legend(ax, f"{metric_name(result)}: {signed(total)} logits in all", shown)
