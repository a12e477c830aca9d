"""How an answer is written at each step of a path."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from torch import Tensor

from maze_dla.errors import check_kind
from maze_dla.plots._axes import axes_or_new, cell_size, colour_bar, name_rows, titled
from maze_dla.plots._checks import Steps, check_attribution, steps_of
from maze_dla.plots._colours import SIGNED, symmetric_limit
from maze_dla.plots._words import component_name, counted, metric_name
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.base import PromptResult
from maze_dla.results.lens import LensResult
from maze_dla.results.words import depth_names

CHARACTER = 0.72  # about the width of a digit with the space around it, in font sizes
SMALLEST, LARGEST = 4.5, 8.0  # font sizes
FEW = 0.25  # of the prompts of the most frequent step: steps with no more do not set the range of colours


def lens_along_path(result: LensResult, steps: Steps, ax: Axes | None = None) -> Axes:
    """The mean metric at every depth, for each step of the path.

    Args:
        result: over prompts that end at several steps, of the task "every_path_step" for one.
        steps: the batch that the result was made of, or the step of each prompt.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: steps that are no whole numbers, more or fewer of them than prompts, or a batch of other prompts.
    """
    check_kind(result, LensResult, "this picture takes a result of logit_lens, which holds every prompt")
    ax = _heat_map(result, result.values, steps, ax, depth_names(result.labels), f"{metric_name(result)} (logits)")
    ax.set_ylabel("residual stream read after")
    scale = {"final": "the final norm's scale", "own": "each depth's own scale"}[result.scale]
    return titled(ax, f"The metric over depth and path, read at {scale}: {counted(len(result), 'prompt')}")


def layers_along_path(result: AttributionResult, steps: Steps, ax: Axes | None = None) -> Axes:
    """The mean contribution of each layer component and the constant, for each step of the path.

    Each column sums to the mean metric of its step.

    Args:
        result: over prompts that end at several steps, of the task "every_path_step" for one.
        steps: the batch that the result was made of, or the step of each prompt.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: steps that are no whole numbers, more or fewer of them than prompts, or a batch of other prompts.
    """
    check_attribution(result)
    values = torch.cat([result.layers, result.constant[:, None]], 1)
    rows = [*map(component_name, result.components), "constant"]
    ax = _heat_map(result, values, steps, ax, rows, "mean contribution (logits)")
    return titled(ax, f"Layers along the path: {metric_name(result)}, {counted(len(result), 'prompt')}")


def _heat_map(
    result: PromptResult, values: Float[Tensor, "prompt row"], steps: Steps, ax: Axes | None, rows: list[str], unit: str
) -> Axes:
    """The mean of each row at each step, with the number of prompts under each step.

    The colours range over the steps that have enough prompts; what lies beyond has the colours of the ends.
    """
    names, mean, counts = _by_step(values, steps_of(result, steps))
    often = np.array(counts) > FEW * max(counts)
    limit = symmetric_limit(mean[:, often])
    ax = axes_or_new(ax, (min(max(6.4, 2.4 + 0.3 * len(names)), 11.5), max(4.2, 1.4 + 0.22 * len(rows))))
    image = ax.imshow(mean, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    name_rows(ax, rows)
    ax.set_xlabel("path cells before the predicted token\n(below: number of prompts)", fontsize=9)
    ax.tick_params(length=0)
    colour_bar(ax, image, unit, extend="both" if np.abs(mean).max() > limit else "neither")
    below = [f"{name}\n{count}" for name, count in zip(names, counts, strict=True)]
    widest = max(len(str(number)) for number in (*names, *counts))
    fit = cell_size(ax, len(rows), len(names))[0] / (CHARACTER * widest)
    ax.set_xticks(range(len(names)), below, fontsize=max(SMALLEST, min(LARGEST, fit)))
    return ax


def _by_step(
    values: Float[Tensor, "prompt row"], steps: Int[Tensor, " prompt"]
) -> tuple[list[int], Float[np.ndarray, "row step"], list[int]]:
    """The steps that occur, the means at each, and how many prompts each has."""
    names, which, counts = torch.unique(steps, return_inverse=True, return_counts=True)
    zeros = torch.zeros(len(names), values.shape[1], dtype=torch.float64, device="cpu")
    sums = zeros.index_add(0, which, values.double())
    return names.tolist(), (sums / counts[:, None]).T.numpy(), counts.tolist()
