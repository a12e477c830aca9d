"""Scatters, one point a head or part: values against patterns, direct against total effects."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import AXIS_NAME, axes_or_new, label_x, quiet_frame, titled, titled_with_legend
from maze_dla.plots._checks import check_count, check_same_prompts
from maze_dla.plots._colours import BLUE, GREY, INK, VERMILION
from maze_dla.plots._points import name_points
from maze_dla.plots._words import counted_about, in_lines, metric_name, of_prompts, one_line
from maze_dla.plots.patched import MEAN_CHANGE, SHARE, TAKES, measured
from maze_dla.results.effects import EffectResult
from maze_dla.results.patching import DENOISE, PatchResult
from maze_dla.results.recovered import Recovered
from maze_dla.results.statistics import Summary

LARGE = 0.1  # of the largest effect: smaller indirect effects are not named
SIZE = (6.0, 5.2)
Measured = Recovered | Summary


def values_and_patterns(values: PatchResult, patterns: PatchResult, ax: Axes | None = None, label: int = 6) -> Axes:
    """The share that patching the values of each head recovers, against that of patching its attention pattern.

    A head to the right moves something else in the other run, one at the top looks elsewhere. Both are shares from 0
    (corrupted) to 1 (clean), or mean changes in logits where one of them is not known; light lines are 95% intervals.

    Args:
        values: of `patch` with the site "v", by head.
        patterns: the same of the site "pattern".
        ax: where to draw; a new figure by default.
        label: how many of the strongest heads are named.

    Raises:
        InputError: something else than these, of other prompts, directions or heads, or a negative `label`.
    """
    _check_pair(values, patterns)
    check_count(label, "label", least=0)
    (x, x_unit), (y, y_unit) = measured(values), measured(patterns)
    unit = SHARE if x_unit == y_unit == SHARE else MEAN_CHANGE
    if unit == MEAN_CHANGE:
        x, y = values.change_summary, patterns.change_summary
    points = _points(x, y)
    changes = np.abs(_points(values.change_summary, patterns.change_summary)).max(1)
    strongest = np.argsort(-changes, kind="stable")[:label].tolist()
    ax = axes_or_new(ax, SIZE)
    _draw(ax, x, y, {BLUE: ("heads", np.ones(len(points), dtype=bool))})
    label_x(ax, f"values patched: {unit}")
    ax.set_ylabel(in_lines(f"patterns patched: {unit}", 60), fontsize=AXIS_NAME)
    name_points(ax, points, [name if i in strongest else None for i, name in enumerate(values.site_names)])
    run = "clean into corrupted" if values.direction == DENOISE else "corrupted into clean"
    return titled(ax, f"Heads patched{values.where}, {run}: {metric_name(values)}, {counted_about(values, 'pair')}")


def direct_and_total(effects: EffectResult, ax: Axes | None = None, label: int = 10) -> Axes:
    """The mean direct effect of ablating each part against its mean total effect, in logits.

    On the diagonal all of the effect is direct. Parts off it, whose indirect effect is at least a tenth of the largest
    effect of any part with a 95% interval that excludes zero, are marked, and the `label` farthest are named. Light
    lines are 95% intervals over prompts.

    Raises:
        InputError: something else than a result of `ablate`, or a negative `label`.
    """
    check_kind(effects, EffectResult, "this picture takes a result of ablate")
    check_count(label, "label", least=0)
    direct, total, indirect = (effects.summarized(v) for v in (effects.direct, effects.total, effects.indirect))
    points = _points(direct, total)
    far, low, high = (getattr(indirect, name).flatten().numpy() for name in ("mean", "low", "high"))
    off = ((low > 0) | (high < 0)) & (np.abs(far) >= LARGE * np.abs(points).max(initial=0))
    named = [i for i in np.argsort(-np.abs(far), kind="stable").tolist() if off[i]][:label]
    ax = axes_or_new(ax, SIZE)
    ax.axline((0, 0), slope=1, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1, label="total = direct")
    rest = f"indirect effect below {LARGE:.0%} of the largest effect, or its interval includes zero"
    _draw(ax, direct, total, {GREY: (rest, ~off), VERMILION: ("a large indirect effect", off)})
    ax.set(xlabel="mean direct effect (logits)", ylabel="mean total effect (logits)")
    name_points(ax, points, [name if i in named else None for i, name in enumerate(effects.part_labels)])
    asked = [f"{name} {one_line(str(effects.info[name]))}" for name in ("value", "positions") if name in effects.info]
    how = f" ({', '.join(asked)})" if asked else ""
    return titled_with_legend(ax, f"Direct and total effect of ablation{how}: {of_prompts(effects)}")


def _check_pair(values: object, patterns: object) -> None:
    """Refuse anything but the values and the patterns of the heads of one model on the same prompts."""
    for name, result, site in (("values", values, "v"), ("patterns", patterns, "pattern")):
        check_kind(result, PatchResult, TAKES)
        assert isinstance(result, PatchResult)
        if result.site != site or result.axes != ("layer", "head"):
            by = " and ".join(result.axes)
            raise InputError(f"{name} are of the site {site!r} by layer and head, got {result.site!r} by {by}")
    assert isinstance(values, PatchResult)
    assert isinstance(patterns, PatchResult)
    check_same_prompts(values, patterns.prompt_tokens)
    for what, one, two in (
        ("directions", values.direction, patterns.direction),
        ("positions", values.info.get("positions"), patterns.info.get("positions")),
        ("metrics", metric_name(values), metric_name(patterns)),
        ("heads", tuple(values.values.shape[1:]), tuple(patterns.values.shape[1:])),
    ):
        if one != two:
            raise InputError(f"values and patterns have other {what}: {one} and {two}")


def _points(x: Measured, y: Measured) -> Float[np.ndarray, "point 2"]:
    return np.stack([x.mean.double().flatten().numpy(), y.mean.double().flatten().numpy()], 1)


def _draw(ax: Axes, x: Measured, y: Measured, marked: dict[str, tuple[str, np.ndarray]]) -> None:
    """The points of each colour, with intervals in both directions, and lines through zero."""
    points = _points(x, y)
    reach = [np.stack([getattr(s, end).double().flatten().numpy() for end in ("low", "high")]) for s in (x, y)]
    for axis in (ax.axhline, ax.axvline):
        axis(0, color=GREY, linewidth=0.6, zorder=0)
    for colour, (label, chosen) in marked.items():
        at: dict[str, Any] = {"x": points[chosen, 0], "y": points[chosen, 1]}
        errors = [np.abs(ends[:, chosen] - points[chosen, i]) for i, ends in enumerate(reach)]
        look = {"fmt": "none", "ecolor": colour, "alpha": 0.35, "elinewidth": 1, "zorder": 2}
        ax.errorbar(**at, xerr=errors[0], yerr=errors[1], **look)
        if chosen.any():
            ax.scatter(**at, color=colour, s=18, linewidth=0, zorder=3, label=label)
    ax.margins(0.08)
    quiet_frame(ax)
