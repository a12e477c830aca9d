"""The contribution of every attention head."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from maze_dla.plots._axes import axes_or_new, cell_size, colour_bar, number_columns, number_rows, titled
from maze_dla.plots._checks import check_count, check_summaries
from maze_dla.plots._colours import SIGNED, symmetric_limit, text_colour
from maze_dla.plots._words import counted, metric_name
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.parts import RankedPart
from maze_dla.results.streamed import StreamedResult

CHARACTER = 0.68  # about the width of a character, in font sizes


def heads(result: AttributionResult | StreamedResult, ax: Axes | None = None, label: int = 5) -> Axes:
    """The mean contribution of each head, layer by head; the `label` strongest of them are named.

    Raises:
        InputError: something else than a result of `attribute` or a stream of them, or a negative `label`.
    """
    check_summaries(result)
    check_count(label, "label", least=0)
    mean = result.head_summary().mean.numpy()
    limit = symmetric_limit(mean)
    ax = axes_or_new(ax)
    image = ax.imshow(mean, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    number_columns(ax, mean.shape[1])
    number_rows(ax, mean.shape[0])
    ax.set(xlabel="head", ylabel="layer")
    ax.tick_params(length=0)
    colour_bar(ax, image, "mean contribution (logits)")
    titled(ax, f"Attention heads: {metric_name(result)}, {counted(len(result), 'prompt')}")
    for part in result.top_heads(label):
        _name(ax, image, part, mean.shape)
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
