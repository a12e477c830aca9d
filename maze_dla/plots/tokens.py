"""Tokens in a grid: those that each depth would answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.image import AxesImage

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import axes_or_new, cell_size, name_columns, name_rows, titled
from maze_dla.plots._checks import check_prompt, checked_positions
from maze_dla.plots._colours import DIVERGENCE
from maze_dla.plots._words import share, shown_token
from maze_dla.plots.heat_map import heat_map, write_in_cell
from maze_dla.results.lens import TokenLensResult
from maze_dla.results.words import depth_names

LAST_POSITIONS = 12
LEAST_DIVERGENCE = 0.01  # nats, below which all looks alike
CHARACTER = 0.66  # about the width of a character, in font sizes
SMALLEST, LARGEST = 5.6, 8.5  # font sizes


@dataclass(frozen=True)
class _Grid:
    """The contents of each cell, [depth, column], and the names of the columns."""

    divergence: np.ndarray
    tokens: list[list[str]]
    notes: list[list[str]]  # the probabilities, or nothing
    expected: list[str]  # the right token of each column
    columns: list[str]


def token_lens(
    result: TokenLensResult, prompt: int = 0, ax: Axes | None = None, positions: Sequence[int] | None = None
) -> Axes:
    """The most likely tokens of one prompt at every depth, coloured by the divergence from the final distribution.

    At the read position a row shows a depth's k most likely tokens with their probabilities, the likeliest on the
    left. Of a result for all positions it shows the likeliest token at each of `positions`, the last twelve by
    default; negative ones count from the end. The final depth is at the top; the token that should follow is set in
    bold.

    Raises:
        InputError: something else than a result of `token_lens`, no such prompt or position, or positions for a result
            that holds the read position alone.
    """
    check_kind(result, TokenLensResult, "this picture takes a result of token_lens, which holds every prompt")
    prompt = check_prompt(result, prompt)
    if result.all_positions:
        grid = _over_positions(result, prompt, checked_positions(result, prompt, positions, LAST_POSITIONS))
    elif positions is not None:
        raise InputError("this result holds the read position alone: ask with token_lens(..., positions='all')")
    else:
        grid = _at_read_position(result, prompt)
    depths, columns = grid.divergence.shape
    wide, high = (0.8, 0.27) if result.all_positions else (1.15, 0.27)
    ax = axes_or_new(ax, (min(max(6.4, 2 + wide * columns), 11.5), max(4.2, 1.2 + high * depths)))
    # square roots, so that one far-away depth does not make all others look alike
    norm = PowerNorm(0.5, vmin=0, vmax=max(float(grid.divergence.max()), LEAST_DIVERGENCE))
    image = heat_map(ax, grid.divergence, "KL(final || depth) (nats)", norm, cmap=DIVERGENCE)
    name_rows(ax, depth_names(result.labels))
    ax.set_ylabel("residual stream read after")
    _describe_columns(ax, result, prompt, grid)
    _write(ax, image, grid)
    return ax


def _at_read_position(result: TokenLensResult, prompt: int) -> _Grid:
    probs = result.top_probs[prompt].double().numpy()
    k = probs.shape[1]
    return _Grid(
        divergence=np.repeat(result.kl[prompt].double().numpy()[:, None], k, 1),
        tokens=result.top_tokens(prompt),
        notes=[[share(float(p)) for p in row] for row in probs],
        expected=[result.targets[prompt]] * k,
        columns=[str(i) for i in range(1, k + 1)],
    )


def _over_positions(result: TokenLensResult, prompt: int, positions: list[int]) -> _Grid:
    tokens = [[row[0] for row in result.top_tokens(prompt, p)] for p in positions]
    own = result.prompt_tokens[prompt]
    following = (*own[1:], result.targets[prompt])
    return _Grid(
        divergence=result.kl[prompt, positions].double().numpy().T,
        tokens=[list(row) for row in zip(*tokens, strict=True)],
        notes=[[""] * len(positions) for _ in result.labels],
        expected=[following[p] for p in positions],
        columns=[shown_token(own[p], 14) for p in positions],
    )


def _write(ax: Axes, image: AxesImage, grid: _Grid) -> None:
    """Each cell's token, as large as the cell allows and cut where even the smallest letters are too wide."""
    width, height = cell_size(ax, *grid.divergence.shape)
    for row, column in np.ndindex(grid.divergence.shape):
        token, note = grid.tokens[row][column], grid.notes[row][column]
        room = int(0.94 * width / (CHARACTER * SMALLEST)) - (len(note) + 1 if note else 0)
        words = f"{shown_token(token, max(room, 2))} {note}".strip()
        fit = 0.94 * width / (CHARACTER * len(words))
        weight = "bold" if token == grid.expected[column] else "normal"
        write_in_cell(image, row, column, words, max(SMALLEST, min(LARGEST, fit, 0.72 * height)), weight)


def _describe_columns(ax: Axes, result: TokenLensResult, prompt: int, grid: _Grid) -> None:
    which = f"Prompt {prompt}: likeliest" if len(result) > 1 else "Likeliest"
    if result.all_positions:
        name_columns(ax, grid.columns)
        ax.set_xlabel("token of the prompt at this position")
        titled(ax, f"{which} next token at every depth (bold: the true one)")
        return
    ax.set_xticks(range(len(grid.columns)), grid.columns)
    ax.set_xlabel("rank of the token, with its probability")
    target = shown_token(result.targets[prompt], 20)
    titled(ax, f"{which} next tokens at every depth (bold: target {target})")
