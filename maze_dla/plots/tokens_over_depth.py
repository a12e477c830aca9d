"""Numbers of the token lens over depth: mean divergence, entropy, probability or rank of the target."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import axes_or_new, name_columns, quiet_frame, titled_with_legend
from maze_dla.plots._checks import given_names
from maze_dla.plots._colours import LINES
from maze_dla.plots._words import counted_about, one_line
from maze_dla.plots.curves import SCALES
from maze_dla.results.lens import TokenLensResult
from maze_dla.results.words import depth_names

UNITS = {
    "kl": "mean KL(final || depth) (nats)",
    "entropy": "mean entropy (nats)",
    "target_prob": "mean probability of the target",
    "target_rank": "mean rank of the target (0: on top)",
}
TAKES = "this picture takes results of token_lens at the read position"


def tokens_over_depth(
    result: TokenLensResult,
    *more: TokenLensResult,
    number: str = "kl",
    ax: Axes | None = None,
    labels: Sequence[str] | None = None,
) -> Axes:
    """The mean of a number of the token lens at every depth, over prompts, with its 95% interval.

    Args:
        result: of `token_lens` at the read position.
        *more: results to draw beside it, read at the same depths.
        number: "kl", "entropy", "target_prob" or "target_rank".
        ax: where to draw; a new figure by default.
        labels: a name for each result, instead of model, number of prompts and scale.

    Raises:
        InputError: results of another kind, of all positions or with different depths, an unknown number, or another
            number of labels than of results.
    """
    results = (result, *more)
    if not isinstance(number, str) or number not in UNITS:
        raise InputError(f"number is one of {', '.join(map(repr, UNITS))}, got {number!r:.60}")
    for one in results:
        check_kind(one, TokenLensResult, TAKES)
        if one.all_positions:
            raise InputError(f"{TAKES}, got one of all positions, of which prompts have different numbers")
    if any(one.labels != result.labels for one in more):
        raise InputError("results are drawn over the same depths, these have others")
    names = [_name(one) for one in results] if labels is None else given_names(labels, len(results))
    ax, x = axes_or_new(ax), range(len(result.labels))
    for i, (one, name) in enumerate(zip(results, names, strict=True)):
        summary, colour = one.summary(number), LINES[i % len(LINES)]
        ax.plot(x, summary.mean.numpy(), color=colour, marker="o", markersize=3.5, linewidth=1.8, label=name)
        ax.fill_between(x, summary.low.numpy(), summary.high.numpy(), color=colour, alpha=0.2, linewidth=0)
    name_columns(ax, depth_names(result.labels))
    ax.set(xlabel="residual stream read after", ylabel=UNITS[number])
    ax.margins(x=0.02)
    quiet_frame(ax)
    return titled_with_legend(ax, "Mean and 95% interval over prompts")


def _name(result: TokenLensResult) -> str:
    model = one_line(str(result.info.get("model", "?")))
    return f"{model}: {counted_about(result, 'prompt')}, read at {SCALES[result.scale]}"
