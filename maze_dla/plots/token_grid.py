"""The token grid: what each depth would answer at each position of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.image import AxesImage

from maze_dla.errors import InputError, check_kind, check_whole
from maze_dla.plots._axes import axes_or_new, cell_size, name_columns, name_rows, titled
from maze_dla.plots._checks import check_prompt, checked_positions
from maze_dla.plots._colours import ATTENTION, DIVERGENCE
from maze_dla.plots._words import share, shown_token
from maze_dla.plots.curves import SCALES
from maze_dla.plots.heat_map import heat_map, write_in_cell
from maze_dla.results.lens import TokenLensResult
from maze_dla.results.words import depth_names

MOST_POSITIONS = 16
LEAST_DIVERGENCE = 0.01  # nats, below which all looks alike
CHARACTER, BOLD = 0.66, 1.14  # about the width of a character, in font sizes, and how much wider bold ones are
SMALLEST, LARGEST, BESIDE, LINE = 4.8, 8.5, 6.5, 1.3  # font sizes, and the height of a line in them
COLUMN, WIDEST, HIGHEST = 0.62, 11.5, 14.0  # inches of a column, and of the figure
UNITS = {
    "kl": "KL(final || depth) (nats)",
    "entropy": "entropy (nats)",
    "target_prob": "probability of the true next token",
    "target_rank": "rank of the true next token (0: on top)",
}
TAKES = "this picture takes a result of token_lens(..., positions='all')"


@dataclass(frozen=True)
class _Shown:
    """The numbers that colour the cells, and how many tokens stand in each."""

    values: Float[np.ndarray, "depth position"]
    unit: str
    norm: Normalize
    cmap: str
    lines: int


def token_grid(
    result: TokenLensResult,
    prompt: int = 0,
    ax: Axes | None = None,
    positions: Sequence[int] | None = None,
    k: int = 1,
    colour: str = "kl",
    token: str | int | None = None,
) -> Axes:
    """Depth by position of one prompt: in each cell the likeliest next tokens with their probabilities.

    The final depth is at the top. The true next token (the prompt's own, at the read position the target) is set in
    bold. Cells are coloured by the divergence KL(final || depth) in nats, or as `colour` says.

    Args:
        result: of `token_lens(..., positions="all")`.
        prompt: which prompt.
        ax: where to draw; a new figure by default.
        positions: which positions, from left to right, negative ones from the end (-1: the read position); by default
            all, of a long prompt the last 16.
        k: how many tokens stand in a cell, the likeliest at its top; the result has to hold as many.
        colour: "kl", "entropy", "target_prob" or "target_rank".
        token: colour by the probability of this token instead, one of those chosen with `token_lens(..., tokens=...)`.

    Raises:
        InputError: something else than such a result, no such prompt or position, more tokens than the result holds,
            an unknown colour, or a token that was not chosen.
    """
    check_kind(result, TokenLensResult, TAKES)
    if not result.all_positions:
        raise InputError(f"{TAKES}, got one of the read position alone")
    prompt = check_prompt(result, prompt)
    places = checked_positions(result, prompt, positions, MOST_POSITIONS)
    shown = _shown(result, prompt, places, check_whole("k", k, 1, result.top_ids.shape[-1]), colour, token)
    depths, columns = shown.values.shape
    size = (min(max(6.4, 2.2 + COLUMN * columns), WIDEST), min(max(4.2, 1.6 + (0.1 + 0.19 * k) * depths), HIGHEST))
    ax = axes_or_new(ax, size)
    image = heat_map(ax, shown.values, shown.unit, shown.norm, cmap=shown.cmap)
    name_rows(ax, depth_names(result.labels))
    name_columns(ax, [shown_token(result.prompt_tokens[prompt][p], 14) for p in places])
    ax.set(xlabel="token of the prompt at this position", ylabel="residual stream read after")
    _write(ax, image, result, prompt, places, shown.lines)
    which = f"Prompt {prompt}: likeliest" if len(result) > 1 else "Likeliest"
    noun = "next token" if k == 1 else f"{k} next tokens"
    return titled(ax, f"{which} {noun}, read at {SCALES[result.scale]} (bold: the true one)")


def _shown(
    result: TokenLensResult, prompt: int, places: list[int], k: int, colour: str, token: str | int | None
) -> _Shown:
    if token is not None:
        values = np.stack([result.probability_of(token, prompt, p).double().numpy() for p in places], 1)
        name = shown_token(token if isinstance(token, str) else result.token_names[token], 24)
        return _Shown(values, f"probability of {name}", Normalize(0, 1), ATTENTION, k)
    if not isinstance(colour, str) or colour not in UNITS:
        raise InputError(f"colour is one of {', '.join(map(repr, UNITS))}, got {colour!r:.60}")
    if (numbers := getattr(result, colour)) is None:
        raise InputError(f"this result holds no {colour}: it was made by an earlier version")
    values = numbers[prompt, places].double().numpy().T
    largest = float(values.max())
    norms = {
        # square roots, so that one far-away depth does not make all others look alike
        "kl": PowerNorm(0.5, vmin=0, vmax=max(largest, LEAST_DIVERGENCE)),
        "entropy": Normalize(0, max(largest, LEAST_DIVERGENCE)),
        "target_prob": Normalize(0, 1),
        "target_rank": PowerNorm(0.25, vmin=0, vmax=max(largest, 1.0)),
    }
    cmap = ATTENTION if colour == "target_prob" else DIVERGENCE
    return _Shown(values, UNITS[colour], norms[colour], cmap, k)


def _write(ax: Axes, image: AxesImage, result: TokenLensResult, prompt: int, places: Sequence[int], k: int) -> None:
    """The likeliest tokens of each cell, below each other; their probabilities where there is room."""
    depths = len(result.labels)
    width, height = cell_size(ax, depths, len(places))
    size = min(LARGEST, 0.92 * height / (LINE * 2 * k))
    beside = max(SMALLEST, size) * LINE * 2 * k > height  # no room for a second line below each token
    size = max(SMALLEST, min(BESIDE, 0.92 * height / (LINE * k)) if beside else size)
    following = (*result.prompt_tokens[prompt][1:], result.targets[prompt])
    step = 1 / k
    for column, position in enumerate(places):
        tokens = result.top_tokens(prompt, position)
        probs = result.top_probs[prompt, position].tolist()
        for row in range(depths):
            for i in range(k):
                words = _words(tokens[row][i], share(probs[row][i]), width, beside=beside)
                bold = "bold" if tokens[row][i] == following[position] else "normal"
                wide = CHARACTER * (BOLD if bold == "bold" else 1) * max(map(len, words.split("\n")))
                fit = min(size, 0.96 * width / wide)
                at = row + (k - 1) * step / 2 - i * step
                write_in_cell(image, row, column, words, fit, bold, at=at)


def _words(token: str, prob: str, width: float, *, beside: bool) -> str:
    """A token and its probability, below it or beside it; alone where the cell is too narrow for both."""
    room = int(0.96 * width / (CHARACTER * SMALLEST))
    if not beside:
        return f"{shown_token(token, max(room, 2))}\n{prob}"
    both = f"{shown_token(token)} {prob}"
    return both if len(both) <= room else shown_token(token, max(room, 2))
