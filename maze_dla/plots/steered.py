"""Steering: the metric by the strength at which a vector is added, beside random directions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from maze_dla.errors import check_kind
from maze_dla.plots._axes import AXIS_NAME, axes_or_new, label_x, quiet_frame, titled_with_legend
from maze_dla.plots._colours import BLUE, GREY, INK
from maze_dla.plots._words import counted, in_lines, metric_name, of_prompts, one_line
from maze_dla.results.statistics import Summary
from maze_dla.results.steering import SteerResult

SITES = {"resid_pre": "before layer {}", "resid_mid": "before the MLP of layer {}"}
WHERE = {"read": "at the read position", "all": "at all positions"}


def steering(result: SteerResult, ax: Axes | None = None) -> Axes:
    """The mean metric against the strength of the vector, beside random directions of its length, in logits.

    Bands are 95% intervals over prompts, clustered; of random directions, of their mean in each prompt. A dashed line
    is the metric without a vector.

    Raises:
        InputError: something else than a result of `steer`.
    """
    check_kind(result, SteerResult, "this picture takes a result of steer")
    strengths = result.strengths.double().numpy()
    order = np.argsort(strengths, kind="stable")
    ax = axes_or_new(ax)
    plain = float(result.metric_summary().mean)
    ax.axhline(plain, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1, label="without a vector")
    if n := result.control.shape[1]:
        name = f"mean of {counted(n, 'random direction')} of the same length"
        _curve(ax, strengths, result.control_by_strength, order, GREY, name)
    _curve(ax, strengths, result.by_strength, order, BLUE, "the vector")
    label_x(ax, "strength (how many times the vector is added)")
    ax.set_ylabel(in_lines(f"{metric_name(result)} (logits)", 36), fontsize=AXIS_NAME)
    ax.margins(x=0.02)
    quiet_frame(ax)
    return titled_with_legend(ax, f"{_where(result)}: {of_prompts(result)}\nmean and 95% interval")


def _curve(ax: Axes, strengths: np.ndarray, summary: Summary, order: np.ndarray, colour: str, name: str) -> None:
    """A mean with its band, from the least strength to the largest."""
    mean, low, high = (getattr(summary, field).double().numpy()[order] for field in ("mean", "low", "high"))
    ax.plot(strengths[order], mean, color=colour, marker="o", markersize=3.5, linewidth=1.8, label=name, zorder=3)
    ax.fill_between(strengths[order], low, high, color=colour, alpha=0.2, linewidth=0)


def _where(result: SteerResult) -> str:
    """Where the vector is added, as far as the result says."""
    site, layer, at = (result.info.get(name) for name in ("site", "layer", "positions"))
    if site is None or layer is None:
        return "Steering"
    positions = WHERE.get(str(at), f"{at} before the read position")
    return one_line(f"Steering {SITES.get(str(site), f'{site} {{}}').format(layer)}, {positions}")
