"""Curves: the metric over depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import axes_or_new, name_columns, quiet_frame, titled_with_legend
from maze_dla.plots._checks import given_names
from maze_dla.plots._colours import INK, LINES
from maze_dla.plots._words import counted, in_lines, metric_name, one_line
from maze_dla.results.attribution import ContributionResult
from maze_dla.results.groups import GroupedResult
from maze_dla.results.lens import LensResult, LensSummary
from maze_dla.results.streamed import StreamedResult
from maze_dla.results.words import depth_names

SCALES = {"final": "the final norm's recorded scale", "own": "each depth's own scale"}
OF_HALVES = "the mean of the two runs' final scales"  # of their inverses
HALF = "half of the final value reached"
DASH = 4.0  # in line widths
Read = LensResult | ContributionResult | StreamedResult
Drawn = Read | GroupedResult


@dataclass(frozen=True)
class _Curve:
    """A result and what is drawn of it; the group that it is of, where it is one of several."""

    result: Read
    lens: LensSummary
    group: str = ""


def lens(result: Drawn, *more: Drawn, ax: Axes | None = None, labels: Sequence[str] | None = None) -> Axes:
    """The mean metric at every depth with its 95% interval, and where it first reaches half of its final value.

    That depth is not marked where the final value's interval includes zero.

    Args:
        result: of `logit_lens`, or of `attribute` or one half of a contrast (its `lens()` is drawn), or a stream; or
            groups of these, with a curve for each group.
        *more: results to draw beside it, read at the same depths.
        ax: where to draw; a new figure by default.
        labels: a name for each result; by default what tells them apart.

    Raises:
        InputError: results of another kind or with different depths, or another number of labels than of results.
    """
    curves = [curve for one in (result, *more) for curve in _curves_of(one)]
    _check_same_depths(curves)
    names = _names(curves) if labels is None else given_names(labels, len(curves))
    ax = axes_or_new(ax)
    depths = depth_names(curves[0].lens.labels)
    ax.axhline(0, color=INK, linewidth=0.8, zorder=1)
    for i, (curve, name) in enumerate(zip(curves, names, strict=True)):
        _draw(ax, curve.lens, name, depths, i, alone=len(curves) == 1)
    name_columns(ax, depths)
    ax.set_xlabel("residual stream read after")
    ax.set_ylabel(in_lines(f"{_shared_metric(curves)} (logits)", 36))
    ax.margins(x=0.02)
    quiet_frame(ax)
    return titled_with_legend(ax, _title(curves))


def _curves_of(result: Drawn) -> list[_Curve]:
    if isinstance(result, GroupedResult):
        of_groups = zip(result.names, map(_curve_of, result.results), strict=True)
        return [replace(curve, group=one_line(name)) for name, curve in of_groups]
    return [_curve_of(result)]


def _curve_of(result: Read) -> _Curve:
    takes = "this picture takes results of logit_lens or attribute, halves of a contrast, or streams or groups of them"
    check_kind(result, Read, takes)
    return _Curve(result, result.lens_summary())


def _draw(ax: Axes, lens: LensSummary, name: str, depths: list[str], number: int, *, alone: bool) -> None:
    summary, colour = lens.summary, LINES[number % len(LINES)]
    x = range(len(depths))
    half = None if lens.may_be_zero else lens.first_depth_with(0.5)
    at = None if half is None else lens.labels.index(half)
    where = "final value may be zero" if lens.may_be_zero else "final value not positive"
    where = where if at is None else f"{HALF} after {depths[at]}"
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


def _check_same_depths(curves: Sequence[_Curve]) -> None:
    first = curves[0].lens.labels
    for i, curve in enumerate(curves[1:], 1):
        other = curve.lens.labels
        if other != first:
            raise InputError(
                f"results are drawn over the same depths: the first has {len(first)} ({first[0]} to {first[-1]}), "
                f"number {i} has {len(other)} ({other[0]} to {other[-1]})"
            )


def _names(curves: Sequence[_Curve]) -> list[str]:
    """Names that tell the results apart: model, task, metric or scale."""
    if len(curves) == 1 and not curves[0].group:
        noun = "pair" if "part" in curves[0].result.info else "prompt"
        return [f"mean of {counted(curves[0].lens.summary.n, noun)}"]
    facts = [
        (
            c.group,
            *(one_line(str(c.result.info.get(key, "?"))) for key in ("model", "task")),
            metric_name(c.result),
            f"{c.lens.scale} scale",
        )
        for c in curves
    ]
    differing = [column for column in zip(*facts, strict=True) if len(set(column)) > 1]
    if not differing and curves[0].group:
        return [curve.group for curve in curves]
    if not differing:
        return [f"result {i}" for i in range(1, len(curves) + 1)]
    return [", ".join(filter(None, parts)) for parts in zip(*differing, strict=True)]


def _shared_metric(curves: Sequence[_Curve]) -> str:
    names = {metric_name(curve.result) for curve in curves}
    return names.pop() if len(names) == 1 else "metric"


def _scale(curve: _Curve) -> str | None:
    if "part" in curve.result.info:
        return OF_HALVES
    return None if curve.lens.scale is None else SCALES[curve.lens.scale]


def _title(curves: Sequence[_Curve]) -> str:
    scales = {_scale(curve) for curve in curves}
    scale = scales.pop() if len(scales) == 1 else None
    read = f", read at {scale}" if scale else ""
    return f"Mean and 95% interval{read}" if len(curves) > 1 else f"The metric over depth{read}"
