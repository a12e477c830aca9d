"""Heads by group of prompts: by a column of the table, or along the path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import NOTEBOOK_SIZE, axes_or_new, quiet_frame, titled_with_legend
from maze_dla.plots._checks import check_attribution, check_count
from maze_dla.plots._colours import INK, LINES
from maze_dla.plots._words import counted, metric_name, one_line
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.groups import GroupedResult
from maze_dla.results.parts import Head, place_of_head, strongest
from maze_dla.results.statistics import Summary
from maze_dla.results.summaries import ContributionSummaries

MARKERS = "osD^vP"
SPREAD = 0.5  # of the way between two groups, over which the heads of one stand side by side
INCHES_PER_GROUP = 0.5
WIDEST = 11.5
FEW = 0.25  # of the largest group's prompts: the intervals of groups with no more do not set the range of the axis
ENDS = ("low", "high")
NARROW = 8  # characters of a group's label, beyond which labels are slanted


def heads_by(
    result: AttributionResult | GroupedResult,
    column: Any = None,
    bins: Any = None,
    *,
    heads: Sequence[Head] | None = None,
    k: int = 5,
    ax: Axes | None = None,
) -> Axes:
    """The mean contribution of some heads in each group of prompts, in logits, with 95% intervals clustered by maze.

    Under each group stands how many prompts it has. A group whose prompts are all about one maze has no interval. The
    axis holds every mean, and the intervals of groups that have a quarter of the largest group's prompts: those of
    smaller ones may go beyond it.

    Args:
        result: of `attribute`, which is put into groups here, or the groups themselves: of `group_by`, or of a stream.
        column, bins: as `group_by` takes them, "distance" for one; neither where groups are given.
        heads: which heads, each (layer, head), a name such as "L5H3" or an entry of `top_heads()`; default the
            strongest.
        k: how many of the strongest, by the size of their mean over all prompts.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: something else than these, groups of other results than of `attribute`, a column besides groups or
            none where there are no groups, no such head, or k below 1.
    """
    grouped = _grouped(result, column, bins)
    check_count(k, "k")
    means = grouped.summary("heads")
    places = _places(grouped, means, heads, k)
    n = len(grouped)
    ax = axes_or_new(ax, (min(max(NOTEBOOK_SIZE[0], 2 + INCHES_PER_GROUP * n), WIDEST), NOTEBOOK_SIZE[1]))
    _draw(ax, means, places)
    ax.set_ylim(*_range(means, places, np.array(grouped.n)))
    below = [f"{one_line(str(label))}\n{counted(size, 'prompt') if n < 7 else size}" for label, size in _sizes(grouped)]
    slanted = n > 6 and max(len(line) for words in below for line in words.split("\n")) > NARROW
    ax.set_xticks(range(n), below, fontsize=8, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    ax.set_xlabel(one_line(grouped.column) + ("" if n < 7 else "\n(below each: number of prompts)"), fontsize=9)
    return titled_with_legend(ax, f"Heads by {one_line(grouped.column)}: {metric_name(grouped.results[0])}")


def heads_along_path(
    result: AttributionResult, *, heads: Sequence[Head] | None = None, k: int = 5, ax: Axes | None = None
) -> Axes:
    """`heads_by` the step of the path: the number of path cells before the predicted token.

    Args:
        result: over prompts that end at several steps, of the task "every_path_step" for one.
        heads, k, ax: as in `heads_by`.

    Raises:
        InputError: something else than a result of `attribute`, prompts that are no steps of a path, and as `heads_by`.
    """
    check_attribution(result)
    if "step" not in result.columns:
        raise InputError("these prompts are no steps of a path: their table has no column 'step'")
    ax = heads_by(result, "step", heads=heads, k=k, ax=ax)
    ax.set_xlabel("path cells before the predicted token\n(below each: number of prompts)", fontsize=9)
    return titled_with_legend(ax, f"Heads along the path: {metric_name(result)}")


def _grouped(result: Any, column: Any, bins: Any) -> GroupedResult:
    """The groups that were given, or that were asked for."""
    if not isinstance(result, GroupedResult):
        check_attribution(result)
        if column is None:
            raise InputError("heads are drawn by a column of the table: name it, such as 'distance', or give groups")
        return result.group_by(column, bins)
    if column is not None or bins is not None:
        raise InputError(f"these are groups by {result.column!r} already: leave column and bins out")
    check_kind(result.results[0], ContributionSummaries, "this picture takes groups of results of attribute")
    return result


def _sizes(grouped: GroupedResult) -> list[tuple[Any, int]]:
    return list(zip(grouped.labels, grouped.n, strict=True))


def _places(grouped: GroupedResult, means: Summary, heads: Sequence[Head] | None, k: int) -> list[tuple[int, int]]:
    """Layer and head of those that were chosen, or of the strongest over all prompts."""
    n_layers, n_heads = means.mean.shape[1:]
    if heads is None:
        share = means.mean.new_tensor(grouped.n) / sum(grouped.n)
        over_all = (means.mean * share[:, None, None]).sum(0)
        whole = Summary(over_all, over_all, over_all, over_all, means.n, means.n_clusters)
        return [(part.layer, part.number) for part in strongest(whole, k, "H")]
    if isinstance(heads, str) or not isinstance(heads, Sequence) or not heads:
        raise InputError(f"heads is a list of heads, such as ['L5H3', (2, 1)], got {heads!r:.80}")
    return [place_of_head(head, n_layers, n_heads) for head in heads]


def _draw(ax: Axes, means: Summary, places: Sequence[tuple[int, int]]) -> None:
    """A curve for each head with its intervals, those of one group side by side."""
    x = np.arange(len(means.mean), dtype=float)
    for i, (layer, head) in enumerate(places):
        shift = SPREAD * ((i + 0.5) / len(places) - 0.5)
        mean, high = _of(means, "mean", layer, head), _of(means, "high", layer, head)
        look: dict[str, Any] = {"color": LINES[i % len(LINES)], "label": f"L{layer}H{head}"}
        look |= {"marker": MARKERS[i % len(MARKERS)], "markersize": 4, "linewidth": 1.2}
        ax.errorbar(x + shift, mean, yerr=high - mean, elinewidth=1, capsize=2, **look)
    ax.axhline(0, color=INK, linewidth=0.8, zorder=1)
    ax.set_ylabel("mean contribution (logits)")
    ax.set_xlim(-0.6, len(x) - 0.4)
    quiet_frame(ax)


def _range(means: Summary, places: Sequence[tuple[int, int]], sizes: Int[np.ndarray, " group"]) -> tuple[float, float]:
    """The ends of the axis: all means, zero, and the intervals of groups with enough prompts, with some room."""
    many = sizes > FEW * sizes.max()
    shown = [_of(means, "mean", *place) for place in places]
    shown += [_of(means, end, *place)[many] for end in ENDS for place in places]
    every = np.concatenate([*shown, [0.0]])
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def _of(means: Summary, name: str, layer: int, head: int) -> Float[np.ndarray, " group"]:
    return getattr(means, name)[:, layer, head].double().numpy()
