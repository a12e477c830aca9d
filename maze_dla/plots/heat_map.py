"""Heat maps: heads, tokens that heads move from, and the steps of a path."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from torch import Tensor

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import (
    axes_or_new,
    cell_size,
    colour_bar,
    name_columns,
    name_rows,
    number_columns,
    number_rows,
    titled,
)
from maze_dla.plots._checks import Steps, check_attribution, check_count, check_prompt, check_summaries, steps_of
from maze_dla.plots._colours import SIGNED, symmetric_limit, text_colour
from maze_dla.plots._words import component_name, counted, decimals, metric_name, of_prompts, shown_token
from maze_dla.results.attribution import ContributionResult
from maze_dla.results.base import PromptResult
from maze_dla.results.components import Component
from maze_dla.results.lens import LensResult
from maze_dla.results.streamed import StreamedResult
from maze_dla.results.words import depth_names

CHARACTER, DIGIT = 0.68, 0.72  # about the width of a character, and of a digit with the space around it, in font sizes
SMALLEST, LARGEST = 4.5, 8.0  # font sizes
FEW = 0.25  # of the prompts of the most frequent step: steps with no more do not set the range of colours
WRITTEN_SHARE = 0.04  # of the largest size: smaller numbers are left to their colour
MOST_COLUMNS = 40  # in which numbers are written
CONTRIBUTION = "mean contribution (logits)"


def heat_map(
    ax: Axes, values: np.ndarray, unit: str, limit: float | Normalize, *, cmap: str = SIGNED, origin: Any = "lower"
) -> AxesImage:
    """A cell for each value, with a colour bar; a number as limit puts zero in the middle of the colours."""
    norm = limit if isinstance(limit, Normalize) else Normalize(-limit, limit)
    image = ax.imshow(values, cmap=cmap, norm=norm, aspect="auto", origin=origin)
    ax.tick_params(length=0)
    colour_bar(
        ax, image, unit, extend="both" if np.abs(np.nan_to_num(values)).max(initial=0) > (norm.vmax or 0) else "neither"
    )
    return image


def write_in_cell(
    image: AxesImage, row: int, column: int, words: str, size: float, weight: str = "normal", *, at: float | None = None
) -> None:
    """Words in the middle of a cell, or `at` another height in it, dark on light and light on dark."""
    y = row if at is None else at
    colour = text_colour(image.to_rgba(np.asarray(image.get_array())[row, [column]])[0])
    image.axes.text(column, y, words, ha="center", va="center", fontsize=size, fontweight=weight, color=colour)


def heads(result: ContributionResult | StreamedResult, ax: Axes | None = None, label: int = 5) -> Axes:
    """The mean contribution of each head, layer by head; the `label` strongest of them are named.

    A name in brackets is of a head whose interval includes zero, as in `top_heads`.

    Raises:
        InputError: something else than a result of `attribute` or a stream of them, or a negative `label`.
    """
    check_summaries(result)
    check_count(label, "label", least=0)
    mean = result.head_summary().mean.numpy()
    ax = axes_or_new(ax)
    image = heat_map(ax, mean, CONTRIBUTION, symmetric_limit(mean))
    number_columns(ax, mean.shape[1])
    number_rows(ax, mean.shape[0])
    ax.set(xlabel="head", ylabel="layer")
    titled(ax, f"Attention heads: {of_prompts(result)}")
    width, height = cell_size(ax, *mean.shape)
    for part in result.top_heads(label):
        name = f"({part.name})" if part.may_be_zero else part.name
        size = min(9.0, 0.95 * width / (CHARACTER * len(name)), 0.8 * height)
        write_in_cell(image, part.layer, part.number, name, size)
    return ax


def token_sources(result: ContributionResult, prompt: int = 0, ax: Axes | None = None, k: int = 8) -> Axes:
    """Contributions from each token of a prompt to its `k` strongest heads, and to all heads together, in logits.

    Args:
        result: from `attribute(..., sources=True)`.
        prompt: which prompt.
        ax: where to draw; a new figure by default.
        k: how many heads, those whose contribution to this prompt is largest by size.

    Raises:
        InputError: a result without sources, no such prompt, or k below 1.
    """
    check_attribution(result)
    if result.sources is None:
        raise InputError("this result has no sources to draw: ask with attribute(..., sources=True)")
    prompt = check_prompt(result, prompt)
    check_count(k, "k")
    tokens = [shown_token(token, 14) for token in result.prompt_tokens[prompt]]
    of_heads = result.sources[prompt].double().flatten(0, 1)[:, : len(tokens)].numpy()
    strongest = np.argsort(-np.abs(result.heads[prompt].double().flatten().numpy()), kind="stable")[:k]
    values = np.vstack([of_heads[strongest], of_heads.sum(0)])
    names = [str(Component("head", *divmod(int(i), result.heads.shape[2]))) for i in strongest] + ["all heads"]
    ax = axes_or_new(ax, (max(6.4, 1.8 + 0.56 * len(tokens)), 1.6 + 0.3 * len(names)))
    image = heat_map(ax, values, "contribution (logits)", symmetric_limit(values), origin="upper")
    _write_numbers(image, values)
    ax.axhline(len(strongest) - 0.5, color="white", linewidth=3)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    name_columns(ax, tokens)
    target = shown_token(result.targets[prompt], 20)
    return titled(ax, f"Moved from each token, {metric_name(result)} (target {target})")


def _write_numbers(image: AxesImage, values: np.ndarray) -> None:
    """The larger numbers in their cells, where there is room for them."""
    if values.shape[1] > MOST_COLUMNS:
        return
    least, places = WRITTEN_SHARE * symmetric_limit(values), decimals(float(np.abs(values).max(initial=0)))
    for row, column in np.argwhere(np.abs(values) >= least).tolist():
        write_in_cell(image, row, column, f"{values[row, column]:.{places}f}", 6.5)


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
    ax = _along_path(result, result.values, steps, ax, depth_names(result.labels), f"{metric_name(result)} (logits)")
    ax.set_ylabel("residual stream read after")
    scale = {"final": "the final norm's scale", "own": "each depth's own scale"}[result.scale]
    scale = "the mean of the two runs' final scales" if "part" in result.info else scale
    return titled(ax, f"The metric over depth and path, read at {scale}: {counted(len(result), 'prompt')}")


def layers_along_path(result: ContributionResult, steps: Steps, ax: Axes | None = None) -> Axes:
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
    ax = _along_path(result, values, steps, ax, rows, CONTRIBUTION)
    return titled(ax, f"Layers along the path: {of_prompts(result)}")


def _along_path(
    result: PromptResult, values: Float[Tensor, "prompt row"], steps: Steps, ax: Axes | None, rows: list[str], unit: str
) -> Axes:
    """The mean of each row at each step, with the number of prompts under each step.

    The colours range over the steps that have enough prompts; what lies beyond has the colours of the ends.
    """
    names, mean, counts = _by_step(values, steps_of(result, steps))
    often = np.array(counts) > FEW * max(counts)
    ax = axes_or_new(ax, (min(max(6.4, 2.4 + 0.3 * len(names)), 11.5), max(4.2, 1.4 + 0.22 * len(rows))))
    heat_map(ax, mean, unit, symmetric_limit(mean[:, often]))
    name_rows(ax, rows)
    ax.set_xlabel("path cells before the predicted token\n(below: number of prompts)", fontsize=9)
    below = [f"{name}\n{count}" for name, count in zip(names, counts, strict=True)]
    widest = max(len(str(number)) for number in (*names, *counts))
    fit = cell_size(ax, len(rows), len(names))[0] / (DIGIT * widest)
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
