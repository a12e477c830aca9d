"""Numbers by position of prompts of different lengths: aligned at the read position, or by kind of token."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.results.columns import groups_of
from maze_dla.results.statistics import Summary, summarize

Values = Float[Tensor, " prompt *site"]


def aligned_at_end(values: Float[Tensor, "prompt *row position"], lengths: Int[Tensor, " prompt"]) -> Values:
    """The values of each prompt moved to the right, so that the last column is that of its last position.

    NaN where a prompt does not reach so far back.
    """
    at = _positions(values.shape[-1], lengths)
    index = at.clamp_min(0).view(len(values), *[1] * (values.ndim - 2), -1).expand_as(values)
    moved = values.gather(-1, index)
    return moved.masked_fill((at < 0).view(len(values), *[1] * (values.ndim - 2), -1), torch.nan)


def reaches(n_positions: int, lengths: Int[Tensor, " prompt"]) -> Bool[Tensor, "prompt offset"]:
    """Which prompts reach so far back from their last position, for each aligned column."""
    return _positions(n_positions, lengths) >= 0


def _positions(n_positions: int, lengths: Int[Tensor, " prompt"]) -> Int[Tensor, "prompt offset"]:
    """The position that stands in each aligned column; below zero where a prompt has none."""
    return lengths[:, None] - n_positions + torch.arange(n_positions)


def mean_by_kind(
    values: Float[Tensor, "prompt *row position"], token_kinds: Int[Tensor, "prompt position"], n_kinds: int
) -> tuple[Values, Bool[Tensor, "prompt kind"]]:
    """The mean over each prompt's tokens of each kind, [prompt, ..., kind], and which prompts have such tokens.

    NaN where a prompt has none; positions of kind -1 belong to none.
    """
    member = (token_kinds[..., None] == torch.arange(n_kinds)).double()
    counts = member.sum(1)
    sums = torch.einsum("n...p,npk->n...k", values.double().nan_to_num(), member)
    return sums / counts.view(len(values), *[1] * (values.ndim - 2), -1), counts > 0


def strongest_by_kind(
    values: Float[Tensor, "prompt *row position"], token_kinds: Int[Tensor, "prompt position"], n_kinds: int
) -> Values:
    """The value that is largest in size among each prompt's tokens of each kind, [prompt, ..., kind]; NaN without."""
    kinds = token_kinds.view(len(values), *[1] * (values.ndim - 2), -1)
    found = []
    for kind in range(n_kinds):
        at = values.abs().nan_to_num(0.0).masked_fill(kinds != kind, -1.0).argmax(-1, keepdim=True)
        none = (kinds == kind).any(-1).logical_not()
        found.append(values.gather(-1, at)[..., 0].masked_fill(none, torch.nan))
    return torch.stack(found, -1).double()


def summary_by_column(
    values: Float[Tensor, "prompt *row column"],
    present: Bool[Tensor, "prompt column"],
    clusters: Int[Tensor, " prompt"],
) -> Summary:
    """Mean, standard error and clustered 95% interval over the prompts that each column has; NaN where it has none.

    `n` and `n_clusters` are those of the column that has most prompts.
    """
    if bool(present.all()):
        return summarize(values, clusters)
    columns = [_of_column(values[..., c], here, clusters) for c, here in enumerate(present.T)]

    def stacked(name: str) -> Float[Tensor, "*row column"]:
        return torch.stack([getattr(column, name) for column in columns], -1)

    n, n_clusters = (max(getattr(column, name) for column in columns) for name in ("n", "n_clusters"))
    return Summary(*(stacked(name) for name in ("mean", "standard_error", "low", "high")), n=n, n_clusters=n_clusters)


def _of_column(values: Values, here: Bool[Tensor, " prompt"], clusters: Int[Tensor, " prompt"]) -> Summary:
    if not bool(here.any()):
        unknown = torch.full(values.shape[1:], torch.nan, dtype=torch.float64)
        return Summary(unknown, unknown, unknown, unknown, n=0, n_clusters=0)
    return summarize(values[here], groups_of(clusters[here]))
