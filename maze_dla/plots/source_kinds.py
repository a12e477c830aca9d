"""From which kinds of token heads move what they move."""

from __future__ import annotations

from matplotlib.axes import Axes

from maze_dla.plots._axes import axes_or_new, quiet_frame, titled_with_legend
from maze_dla.plots._checks import check_summaries
from maze_dla.plots._colours import INK, NEGATIVE, POSITIVE
from maze_dla.plots._words import counted, metric_name, one_line
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.streamed import StreamedResult


def source_kinds(result: AttributionResult | StreamedResult, ax: Axes | None = None) -> Axes:
    """Contributions that heads moved from each kind of token, mean over prompts in logits.

    To the right what heads with a positive mean added, to the left what the others took away; the dot is the sum of
    all heads with its 95% interval over prompts.

    Raises:
        InputError: something else than a result of `attribute` or a stream of them, or one without sources by kind.
    """
    check_summaries(result)
    of_heads, net = result.kind_summary().mean.flatten(0, 1), result.moved_summary()
    rows = range(len(result.kinds))
    ax = axes_or_new(ax)
    ax.barh(rows, of_heads.clamp_min(0).sum(0).numpy(), color=POSITIVE, height=0.6, label="heads that add")
    ax.barh(rows, of_heads.clamp_max(0).sum(0).numpy(), color=NEGATIVE, height=0.6, label="heads that take away")
    reach = (net.high - net.mean).numpy()
    ax.errorbar(net.mean.numpy(), rows, xerr=reach, fmt="o", color=INK, capsize=3, markersize=4, label="all heads")
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(rows, [one_line(kind) for kind in result.kinds])
    ax.invert_yaxis()
    ax.margins(y=0.1)
    ax.set_xlabel("mean contribution (logits)")
    quiet_frame(ax)
    title = f"Moved by heads from each kind of token: {metric_name(result)}, {counted(len(result), 'prompt')}"
    return titled_with_legend(ax, title)
