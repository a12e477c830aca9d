"""The contribution of every attention head."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from maze_dla.plots._axes import axes_or_new, cell_size
from maze_dla.plots._checks import check_count
from maze_dla.plots._colours import SIGNED, symmetric_limit, text_colour
from maze_dla.plots._words import counted, in_lines, metric_name
from maze_dla.results.attribution import AttributionResult, RankedPart
from maze_dla.results.statistics import summarize

CHARACTER = 0.68  # about the width of a character, in font sizes


def heads(result: AttributionResult, ax: Axes | None = None, label: int = 5) -> Axes:
    """The mean contribution of each head, layer by head; the `label` strongest of them are named.

    Raises:
        InputError: a negative `label`.
    """
    check_count(label, "label", least=0)
    mean = summarize(result.heads).mean.numpy()
    limit = symmetric_limit(mean)
    ax = axes_or_new(ax)
    image = ax.imshow(mean, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    for part in result.top_heads(label):
        _name(ax, image, part, mean.shape)
    ax.set_xticks(range(mean.shape[1]))
    ax.set_yticks(range(mean.shape[0]))
    ax.set(xlabel="head", ylabel="layer")
    ax.tick_params(length=0)
    ax.figure.colorbar(image, ax=ax, label="mean contribution (logits)")
    title = f"Attention heads: {metric_name(result)}, {counted(len(result), 'prompt')}"
    ax.set_title(in_lines(title, 60), fontsize=10)
    return ax


def _name(ax: Axes, image: AxesImage, part: RankedPart, shape: tuple[int, ...]) -> None:
    width, height = cell_size(ax, *shape)
    ax.text(
        part.number,
        part.layer,
        part.name,
        ha="center",
        va="center",
        fontsize=min(9.0, 0.95 * width / (CHARACTER * len(part.name)), 0.8 * height),
        color=text_colour(image.to_rgba(np.array([part.mean]))[0]),
    )
