"""What heads moved from each token of a prompt."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from maze_dla.errors import InputError
from maze_dla.plots._axes import axes_or_new, colour_bar, name_columns, titled
from maze_dla.plots._checks import check_attribution, check_count, check_prompt
from maze_dla.plots._colours import SIGNED, symmetric_limit, text_colour
from maze_dla.plots._words import decimals, metric_name, shown_token
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.components import Component

WRITTEN_SHARE = 0.04  # of the largest size: smaller numbers are left to their colour


def token_sources(result: AttributionResult, prompt: int = 0, ax: Axes | None = None, k: int = 8) -> Axes:
    """What the `k` strongest heads on a prompt, and all heads together, moved from each of its tokens, in logits.

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
    limit = symmetric_limit(values)
    image = ax.imshow(values, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto")
    _write(ax, values, image.to_rgba(values), WRITTEN_SHARE * limit)
    ax.axhline(len(strongest) - 0.5, color="white", linewidth=3)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    name_columns(ax, tokens)
    ax.tick_params(length=0)
    colour_bar(ax, image, "contribution (logits)")
    target = shown_token(result.targets[prompt], 20)
    return titled(ax, f"Moved from each token, {metric_name(result)} (target {target})")


def _write(ax: Axes, values: np.ndarray, colours: np.ndarray, least: float) -> None:
    """The larger numbers in their cells, where there is room for them."""
    if values.shape[1] > 40:
        return
    places = decimals(float(np.abs(values).max(initial=0)))
    for (row, column), value in np.ndenumerate(values):
        if abs(value) >= least:
            colour = text_colour(colours[row, column])
            ax.text(column, row, f"{value:.{places}f}", ha="center", va="center", fontsize=6.5, color=colour)
