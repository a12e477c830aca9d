"""The metric over depth."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from maze_dla.errors import InputError
from maze_dla.plots._axes import axes_or_new, name_ticks, quiet_frame
from maze_dla.plots._colours import INK, LINES
from maze_dla.plots._words import counted, in_lines, metric_name
from maze_dla.results.lens import LensResult
from maze_dla.results.words import depth_names

SCALES = {"final": "the final norm's recorded scale", "own": "each depth's own scale"}
HALF = "half of the final value reached"
DASH = 4.0  # in line widths


def lens(result: LensResult, *more: LensResult, ax: Axes | None = None, labels: Sequence[str] | None = None) -> Axes:
    """The mean metric at every depth with its 95% interval, and where it first reaches half of its final value.

    Args:
        result: what to draw.
        *more: results to draw beside it, read at the same depths.
        ax: where to draw; a new figure by default.
        labels: a name for each result; by default what tells them apart.

    Raises:
        InputError: results with different depths, or another number of labels than of results.
    """
    results = (result, *more)
    _check_same_depths(results)
    names = _names(results) if labels is None else list(labels)
    if len(names) != len(results):
        raise InputError(f"labels has {len(names)} names, expected one for each of {counted(len(results), 'result')}")
    ax = axes_or_new(ax)
    depths = depth_names(result.labels)
    ax.axhline(0, color=INK, linewidth=0.8, zorder=1)
    for i, (one, name) in enumerate(zip(results, names, strict=True)):
        _curve(ax, one, name, depths, i, alone=len(results) == 1)
    name_ticks(ax, depths)
    ax.set_xlabel("residual stream read after")
    ax.set_ylabel(in_lines(f"{_shared_metric(results)} (logits)", 36))
    ax.set_title(_title(results), fontsize=10)
    ax.legend(fontsize=8, framealpha=0.85, edgecolor="none")
    ax.margins(x=0.02)
    quiet_frame(ax)
    return ax


def _curve(ax: Axes, result: LensResult, name: str, depths: list[str], number: int, *, alone: bool) -> None:
    summary, colour = result.summary(), LINES[number % len(LINES)]
    x = range(len(depths))
    half = result.first_depth_with(0.5)
    at = None if half is None else result.labels.index(half)
    where = "final value not positive" if at is None else f"{HALF} after {depths[at]}"
    label = name if alone else f"{name}: {where}"
    ax.plot(x, summary.mean.numpy(), color=colour, marker="o", markersize=3.5, linewidth=1.8, label=label, zorder=3)
    ax.fill_between(
        x,
        summary.low.numpy(),
        summary.high.numpy(),
        color=colour,
        alpha=0.2,
        linewidth=0,
        label="95% interval of the mean" if alone else None,
    )
    if at is not None:
        dashes = (DASH * number, (DASH, DASH))  # shifted, so that lines at one depth are all seen
        ax.axvline(at, color=colour, linestyle=dashes, linewidth=1.3, zorder=2, label=where if alone else None)


def _check_same_depths(results: Sequence[LensResult]) -> None:
    first = results[0].labels
    for i, other in enumerate(results[1:], 1):
        if other.labels != first:
            raise InputError(
                f"results are drawn over the same depths: the first has {len(first)} ({first[0]} to {first[-1]}), "
                f"number {i} has {len(other.labels)} ({other.labels[0]} to {other.labels[-1]})"
            )


def _names(results: Sequence[LensResult]) -> list[str]:
    """What tells the results apart: model, task, metric or scale."""
    if len(results) == 1:
        return [f"mean of {counted(len(results[0]), 'prompt')}"]
    facts = [(*(str(r.info.get(key, "?")) for key in ("model", "task", "metric")), f"{r.scale} scale") for r in results]
    differing = [column for column in zip(*facts, strict=True) if len(set(column)) > 1]
    if not differing:
        return [f"result {i}" for i in range(1, len(results) + 1)]
    return [", ".join(parts) for parts in zip(*differing, strict=True)]


def _shared_metric(results: Sequence[LensResult]) -> str:
    names = {metric_name(r) for r in results}
    return names.pop() if len(names) == 1 else "metric"


def _title(results: Sequence[LensResult]) -> str:
    scales = {r.scale for r in results}
    read = f", read at {SCALES[scales.pop()]}" if len(scales) == 1 else ""
    return f"Mean and 95% interval{read}" if len(results) > 1 else f"The metric over depth{read}"
