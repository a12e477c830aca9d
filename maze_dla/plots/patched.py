"""Patching: which site brings the metric of the other run back, by layer and position, head or neuron."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from maze_dla.errors import InputError, check_kind
from maze_dla.plots._axes import (
    NOTEBOOK_SIZE,
    axes_or_new,
    cell_size,
    label_x,
    name_columns,
    name_rows,
    number_columns,
    number_rows,
    titled,
)
from maze_dla.plots._checks import check_count, check_prompt
from maze_dla.plots._colours import NEGATIVE, POSITIVE, symmetric_limit
from maze_dla.plots._words import counted_about, metric_name, one_line, shown_token
from maze_dla.plots.bars import INCHES_PER_BAR, draw_bars
from maze_dla.plots.heat_map import CHARACTER, FEW, heat_map, write_in_cell
from maze_dla.results.patching import DENOISE, PatchResult
from maze_dla.results.recovered import Recovered
from maze_dla.results.statistics import Summary

TAKES = "this picture takes a result of patch"
SHARE, MEAN_CHANGE, CHANGE = "metric, from 0 (corrupted) to 1 (clean)", "mean change (logits)", "change (logits)"
UNKNOWN = "#B8B8B8"  # of cells without a number
SITES = {
    "resid_pre": "residual stream",
    "resid_mid": "residual stream in front of MLPs",
    "attn_out": "attention outputs",
    "mlp_out": "MLP outputs",
    "z": "heads",
    "q": "queries of heads",
    "k": "keys of heads",
    "v": "values of heads",
    "pattern": "attention patterns of heads",
    "neurons": "neurons",
}


@dataclass(frozen=True)
class _Map:
    """The numbers drawn: one for each cell, NaN where there is none, the names of columns, and what they are."""

    values: Float[np.ndarray, "row column"]
    unit: str
    limit: float
    columns: list[str] | int
    """Their names, or the number of the first."""
    xlabel: str


def patching(
    result: PatchResult,
    ax: Axes | None = None,
    *,
    prompt: int | None = None,
    kinds: bool = False,
    last: int | None = None,
    label: int = 5,
    k: int = 20,
) -> Axes:
    """The share that each site recovers when patched: a heat map by layer and position or head, or bars of neurons.

    Colours are `result.recovered`, the metric on a scale from 0 (corrupted) to 1 (clean); where that is not known at
    all, or one prompt is drawn, they are the (mean) change of the metric in logits. Positions are offsets from the
    read position; tokens stand there where all prompts are of one length, or one prompt is drawn. A cell without a
    number is grey.

    Args:
        result: of `patch`.
        ax: where to draw; a new figure by default.
        prompt: one prompt, with its tokens; default the mean over prompts.
        kinds: whether columns are kinds of token in place of positions. Of each prompt's tokens of a kind it is the one
            that changes the metric most when patched alone: the mean over them, which `result.by_kind()` has too, would
            show a third where one of three carries everything.
        last: how many positions are drawn, counted back from the read position; default all.
        label: how many of the strongest heads are named.
        k: how many neurons are drawn, the strongest of them.

    Raises:
        InputError: something else than a result of `patch`, no such prompt, both a prompt and kinds, kinds or last
            positions of a result without positions, or a number of heads, neurons or positions that is too low.
    """
    check_kind(result, PatchResult, TAKES)
    check_count(label, "label", least=0)
    check_count(k, "k")
    if prompt is not None and kinds:
        raise InputError("kinds of token are averaged over prompts: leave prompt out, or kinds")
    if last is not None:
        _check_last(result, last, kinds)
    if result.axes == ("neuron",):
        return _neurons(result, ax, prompt, kinds, k)
    drawn = _of_prompt(result, check_prompt(result, prompt)) if prompt is not None else _of_mean(result, kinds, last)
    drawn = drawn if last is None else _cut(drawn, last)
    rows, columns = drawn.values.shape
    ax = axes_or_new(ax, (min(max(6.4, 2 + 0.3 * columns), 11.5), min(max(4.2, 1.4 + 0.2 * rows), 9.0)))
    image = heat_map(ax, drawn.values, drawn.unit, drawn.limit)
    ax.set_facecolor(UNKNOWN)
    if isinstance(drawn.columns, int):
        number_columns(ax, columns, drawn.columns)
    else:
        name_columns(ax, drawn.columns)
    label_x(ax, drawn.xlabel)
    _name_rows(ax, result, rows)
    titled(ax, title_of(result, prompt))
    if result.axes == ("layer", "head") and prompt is None:
        width, height = cell_size(ax, rows, columns)
        for part in result.top(label):
            size = min(9.0, 0.95 * width / (CHARACTER * len(part.name)), 0.8 * height)
            write_in_cell(image, part.at[0], part.at[1], part.name, size)
    return ax


def measured(result: PatchResult) -> tuple[Recovered | Summary, str]:
    """The shares recovered, or where none is known the mean changes; and their unit."""
    recovered = result.recovered
    return (recovered, SHARE) if bool(recovered.known.any()) else (result.change_summary, MEAN_CHANGE)


def title_of(result: PatchResult, prompt: int | None = None) -> str:
    """Which activations are put where, and of how many pairs."""
    run = "clean into corrupted" if result.direction == DENOISE else "corrupted into clean"
    of = f"prompt {prompt}" if prompt is not None else counted_about(result, "pair")
    how = ", estimated from gradients" if result.estimated else ""
    site = one_line(SITES.get(result.site, result.site))
    return f"Patched, {run}: {site}{result.where}{how}\n{metric_name(result)}, {of}"


def _of_mean(result: PatchResult, kinds: bool, last: int | None) -> _Map:
    """The mean over prompts by kind, by offset, or by head."""
    if kinds:
        by_kind = result.by_kind()
        share, change = by_kind.strongest_recovered, by_kind.strongest_summary
        shown, unit = (share, SHARE) if bool(share.known.any()) else (change, MEAN_CHANGE)
        counts, xlabel = share.n, "kind of the patched token: in each prompt the one that changes most, patched alone"
        columns: list[str] | int = [one_line(kind) for kind in by_kind.kinds]
    else:
        shown, unit = measured(result)
        counts, (columns, xlabel) = result.recovered.n, _columns(result, last)
    values = shown.mean.double().reshape(-1, shown.mean.shape[-1]).numpy()
    often = counts.numpy() > FEW * int(counts.max())
    return _Map(values, unit, symmetric_limit(np.nan_to_num(values[:, often])), columns, xlabel)


def _of_prompt(result: PatchResult, prompt: int) -> _Map:
    values = result.change[prompt].double()
    if not result.by_position:
        columns, xlabel = _columns(result)
    else:
        tokens = result.prompt_tokens[prompt]
        values = values[..., : len(tokens)]
        columns, xlabel = [shown_token(token, 14) for token in tokens], "patched token"
    shown = values.reshape(-1, values.shape[-1]).numpy()
    return _Map(shown, CHANGE, symmetric_limit(shown), columns, xlabel)


def _check_last(result: PatchResult, last: int, kinds: bool) -> None:
    check_count(last, "last")
    if kinds or not result.by_position:
        has = "kinds of token" if kinds else " and ".join(result.axes)
        raise InputError(f"last counts positions back from the read position, this picture is by {has}")


def _cut(drawn: _Map, last: int) -> _Map:
    """Its last columns."""
    columns, n = drawn.columns, drawn.values.shape[1]
    kept = columns + max(n - last, 0) if isinstance(columns, int) else columns[-last:]
    return replace(drawn, values=drawn.values[:, -last:], columns=kept)


def _columns(result: PatchResult, last: int | None = None) -> tuple[list[str] | int, str]:
    """The names of the columns of a mean over prompts, or the number of the first, and what they are.

    `last` is how many are drawn; how many pairs reach so far is said of these alone.
    """
    if not result.by_position:
        return 0, result.axes[-1]
    if len(set(map(len, result.prompt_tokens))) > 1:
        n = result.recovered.n.tolist()[-(last or 0) :]
        fewest = f"\n({min(n)} to {max(n)} pairs reach so far)" if min(n) < max(n) else ""
        return result.offsets[0], f"offset of the patched position from the read position{fewest}"
    differ = any(len(set(tokens)) > 1 for tokens in zip(*result.prompt_tokens, strict=True))
    names = [_token_at(result, position) for position in range(result.values.shape[-1])]
    return names, "patched token" + " (its kind or offset from the read position where prompts differ)" * differ


def _token_at(result: PatchResult, position: int) -> str:
    """The token that all prompts have there, else its kind where they agree on that, else the offset."""
    tokens = {tokens[position] for tokens in result.prompt_tokens}
    if len(tokens) == 1:
        return shown_token(tokens.pop(), 14)
    known = set() if result.token_kinds is None else set(result.token_kinds[:, position].tolist())
    kind = known.pop() if len(known) == 1 else -1
    return f"[{one_line(result.kinds[kind])}]" if kind >= 0 else str(result.offsets[position])


def _name_rows(ax: Axes, result: PatchResult, rows: int) -> None:
    leading = result.axes[:-1]
    if leading == ("layer",):
        number_rows(ax, rows)
        ax.set_ylabel("layer")
    elif leading == ("layer", "head"):
        n_heads = result.values.shape[2]
        name_rows(ax, [f"L{i // n_heads}H{i % n_heads}" for i in range(rows)])
        ax.set_ylabel("head")
    else:
        ax.set_yticks([])


def _neurons(result: PatchResult, ax: Axes | None, prompt: int | None, kinds: bool, k: int) -> Axes:
    """Bars of the strongest neurons, with 95% intervals over prompts."""
    if prompt is not None or kinds:
        raise InputError("neurons are drawn as means over prompts: leave prompt and kinds out")
    strongest = [part.at[0] for part in result.top(k)]
    shown, unit = measured(result)
    mean, low, high = (getattr(shown, name)[strongest].double().numpy() for name in ("mean", "low", "high"))
    width, height = NOTEBOOK_SIZE
    ax = axes_or_new(ax, (width, max(height, 1 + INCHES_PER_BAR * len(strongest))))
    colours = [POSITIVE if m > 0 else NEGATIVE for m in mean]
    draw_bars(ax, mean, colours, np.stack([mean - low, high - mean]).clip(min=0), unit=unit)
    name_rows(ax, [result.neurons[i] for i in strongest])
    ax.set_ylim(len(strongest) - 0.4, -0.6)
    chosen = f"strongest {len(strongest)} of {len(result.neurons)}"
    return titled(ax, f"{title_of(result)}, {chosen}")
