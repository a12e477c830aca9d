"""Bars: layers, neurons, and the kinds of token that heads move from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from maze_dla.plots._axes import (
    NOTEBOOK_SIZE,
    axes_or_new,
    name_columns,
    name_rows,
    quiet_frame,
    titled,
    titled_with_legend,
)
from maze_dla.plots._checks import check_count, check_summaries
from maze_dla.plots._colours import INK, KINDS, NEGATIVE, POSITIVE
from maze_dla.plots._words import component_kind, component_name, counted, metric_name, of_prompts, one_line, signed
from maze_dla.results.attribution import ContributionResult
from maze_dla.results.streamed import StreamedResult

INCHES_PER_BAR = 0.17


def layers(result: ContributionResult | StreamedResult, ax: Axes | None = None) -> Axes:
    """A bar for each layer component and the constant, with 95% intervals over prompts; the bars sum to the metric.

    Raises:
        InputError: something else than a result of `attribute` or a stream of them.
    """
    check_summaries(result)
    kinds = [*map(component_kind, result.components), "constant"]
    parts, constant = result.layer_summary(), result.constant_summary()
    mean, high = (np.append(getattr(parts, name), getattr(constant, name)) for name in ("mean", "high"))
    ax = axes_or_new(ax)
    draw_bars(ax, mean, [KINDS[kind] for kind in kinds], high - mean, upright=True)
    name_columns(ax, [*map(component_name, result.components), "constant"])
    ax.margins(x=0.01)
    total = signed(float(result.metric_summary().mean))
    shown = [Patch(color=colour, label=kind) for kind, colour in KINDS.items() if kind in kinds]
    return titled_with_legend(ax, f"{metric_name(result)}: {total} logits in all", shown)


def neurons(result: ContributionResult | StreamedResult, ax: Axes | None = None, k: int = 20) -> Axes:
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
    mean, high = np.array([(part.mean, part.high) for part in ranked]).reshape(-1, 2).T
    draw_bars(ax, mean, [POSITIVE if m > 0 else NEGATIVE for m in mean], high - mean)
    name_rows(ax, [part.name for part in ranked])
    ax.set_ylim(len(ranked) - 0.4, -0.6)
    return titled(ax, f"Strongest {counted(len(ranked), 'neuron')} of {n_neurons}: {metric_name(result)}")


def source_kinds(result: ContributionResult | StreamedResult, ax: Axes | None = None) -> Axes:
    """Contributions that heads moved from each kind of token, mean over prompts in logits.

    To the right what heads with a positive mean added, to the left what the others took away; the dot is the sum of
    all heads with its 95% interval over prompts.

    Raises:
        InputError: something else than a result of `attribute` or a stream of them, or one without sources by kind.
    """
    check_summaries(result)
    of_heads, net = result.kind_summary().mean.flatten(0, 1).numpy(), result.moved_summary()
    rows = range(len(result.kinds))
    ax = axes_or_new(ax)
    draw_bars(ax, of_heads.clip(min=0).sum(0), POSITIVE, height=0.6, label="heads that add")
    ax.barh(rows, of_heads.clip(max=0).sum(0), color=NEGATIVE, height=0.6, label="heads that take away")
    reach = (net.high - net.mean).numpy()
    ax.errorbar(net.mean.numpy(), rows, xerr=reach, fmt="o", color=INK, capsize=3, markersize=4, label="all heads")
    ax.set_yticks(rows, [one_line(kind) for kind in result.kinds])
    ax.invert_yaxis()
    ax.margins(y=0.1)
    return titled_with_legend(ax, f"Moved by heads from each kind of token: {of_prompts(result)}")


def draw_bars(
    ax: Axes,
    mean: np.ndarray,
    colours: str | Sequence[str],
    reach: np.ndarray | None = None,
    *,
    upright: bool = False,
    unit: str = "mean contribution (logits)",
    **look: Any,
) -> None:
    """A bar for each mean, from zero to the right or upwards, with its interval: one reach, or those to either side."""
    draw, axis, zero, name = (
        (ax.bar, "yerr", ax.axhline, ax.set_ylabel) if upright else (ax.barh, "xerr", ax.axvline, ax.set_xlabel)
    )
    if reach is not None:
        look |= {axis: reach, "error_kw": {"ecolor": INK, "elinewidth": 1, "capsize": 2}}
    draw(range(len(mean)), mean, color=colours, **look)
    zero(0, color=INK, linewidth=0.8)
    name(unit)
    quiet_frame(ax)
