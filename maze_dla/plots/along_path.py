"""How an answer is written at each step of a path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.plots._axes import axes_or_new, cell_size
from maze_dla.plots._colours import SIGNED, symmetric_limit
from maze_dla.plots._words import component_name, counted, in_lines, metric_name
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.base import PromptResult
from maze_dla.results.lens import LensResult
from maze_dla.results.words import depth_names

Steps = Int[Tensor, "prompt"] | Sequence[int]
CHARACTER = 0.72  # about the width of a digit with the space around it, in font sizes
SMALLEST, LARGEST = 4.5, 8.0  # font sizes


def lens_along_path(result: LensResult, steps: Steps, ax: Axes | None = None) -> Axes:
    """The mean metric at every depth, for each step of the path.

    Args:
        result: over prompts that end at several steps, of the task "every_path_step" for one.
        steps: the step of each prompt, as in the batch's `steps`.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: steps that are no whole numbers, or more or fewer than prompts.
    """
    ax = _heat_map(result, result.values, steps, ax, depth_names(result.labels), f"{metric_name(result)} (logits)")
    ax.set_ylabel("residual stream read after")
    scale = {"final": "the final norm's scale", "own": "each depth's own scale"}[result.scale]
    return _titled(ax, f"The metric over depth and path, read at {scale}: {counted(len(result), 'prompt')}")


def layers_along_path(result: AttributionResult, steps: Steps, ax: Axes | None = None) -> Axes:
    """The mean contribution of each layer component and the constant, for each step of the path.

    Each column sums to the mean metric of its step.

    Args:
        result: over prompts that end at several steps, of the task "every_path_step" for one.
        steps: the step of each prompt, as in the batch's `steps`.
        ax: where to draw; a new figure by default.

    Raises:
        InputError: steps that are no whole numbers, or more or fewer than prompts.
    """
    values = torch.cat([result.layers, result.constant[:, None]], 1)
    rows = [*map(component_name, result.layer_labels), "constant"]
    ax = _heat_map(result, values, steps, ax, rows, "mean contribution (logits)")
    return _titled(ax, f"Layers along the path: {metric_name(result)}, {counted(len(result), 'prompt')}")


def _heat_map(
    result: PromptResult, values: Float[Tensor, "prompt row"], steps: Steps, ax: Axes | None, rows: list[str], unit: str
) -> Axes:
    """The mean of each row at each step, with the number of prompts under each step."""
    names, mean, counts = _by_step(values, _checked(result, steps))
    limit = symmetric_limit(mean)
    ax = axes_or_new(ax, (min(max(6.4, 2.4 + 0.3 * len(names)), 11.5), max(4.2, 1.4 + 0.22 * len(rows))))
    image = ax.imshow(mean, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    below = [f"{name}\n{count}" for name, count in zip(names, counts, strict=True)]
    widest = max(len(str(number)) for number in (*names, *counts))
    fit = cell_size(ax, len(rows), len(names))[0] / (CHARACTER * widest)
    ax.set_xticks(range(len(names)), below, fontsize=max(SMALLEST, min(LARGEST, fit)))
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.set_xlabel("path cells in front of the predicted token\n(below: number of prompts)", fontsize=9)
    ax.tick_params(length=0)
    ax.figure.colorbar(image, ax=ax).set_label(in_lines(unit, 40), fontsize=9)
    return ax


def _by_step(
    values: Float[Tensor, "prompt row"], steps: Int[Tensor, "prompt"]
) -> tuple[list[int], Float[np.ndarray, "row step"], list[int]]:
    """The steps that occur, the means at each, and how many prompts each has."""
    names, which, counts = torch.unique(steps, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(names), values.shape[1], dtype=torch.float64).index_add(0, which, values.double())
    return names.tolist(), (sums / counts[:, None]).T.numpy(), counts.tolist()


def _checked(result: PromptResult, steps: Steps) -> Int[Tensor, "prompt"]:
    given = torch.as_tensor(steps).cpu()
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise InputError(f"steps are whole numbers, got {given.dtype}")
    if tuple(given.shape) != (len(result),):
        raise InputError(f"steps has shape {tuple(given.shape)}, expected one for each of {len(result)} prompts")
    return given


def _titled(ax: Axes, title: str) -> Axes:
    ax.set_title(in_lines(title, 64), fontsize=10)
    return ax
