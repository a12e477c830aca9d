"""Buckets of mazes: fixed groups by a hash, of which halves serve to choose and the others to measure.

What prompts are about, a maze for one, falls into one of 64 buckets by a hash of its name, so that neither the order of
prompts nor the batches of a stream change anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.results.columns import Column, name_of
from maze_dla.results.torch_defaults import torch_defaults

N_BUCKETS = 64
N_SPLITS = 32


def buckets_of(names: Column) -> Int[Tensor, " prompt"]:
    """The bucket of each prompt, by the name of what it is about."""
    listed = names.tolist() if isinstance(names, Tensor) else names
    known = {name: int(name_of([str(name)]), 16) % N_BUCKETS for name in dict.fromkeys(listed)}
    return torch.tensor([known[name] for name in listed], dtype=torch.long)


@cache
@torch_defaults()
def halves() -> Bool[Tensor, "half bucket"]:
    """The 32 fixed splits of the buckets into two halves; half i and half 32 + i have no bucket in common.

    The splits are rows of a Hadamard matrix: each has 32 buckets on either side, and any two of them agree on exactly
    half of the buckets.
    """
    signs = torch.ones(1, 1)
    while len(signs) < N_BUCKETS:
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    first = signs[1 : N_SPLITS + 1] > 0
    return torch.cat([first, ~first])


def bucket_sums(values: Float[Tensor, "prompt ..."], buckets: Int[Tensor, " prompt"]) -> Float[Tensor, "bucket ..."]:
    """The sum of each bucket's prompts, in double precision."""
    values = values.double()
    return values.new_zeros(N_BUCKETS, *values.shape[1:]).index_add_(0, buckets, values)


@dataclass(frozen=True, eq=False)
class Clusters:
    """The thing that each prompt is about, by number; how many prompts each such thing has; and their buckets."""

    numbers: Int[Tensor, " prompt"]
    sizes: Int[Tensor, " cluster"]
    buckets: Int[Tensor, " prompt"]


def error_by_bucket(sums: Float[Tensor, "bucket ..."], counts: Int[Tensor, " bucket"]) -> Float[Tensor, "..."]:
    """The standard error of the mean with buckets as clusters, from their sums; NaN where all is in one bucket."""
    held, n = counts > 0, counts.sum()
    mean = sums.sum(0) / n
    off = sums[held] - counts[held].double().view(-1, *[1] * mean.ndim) * mean
    b = int(held.sum())
    return (off.square().sum(0) * (b / (b - 1))).sqrt() / n if b > 1 else torch.full_like(mean, torch.nan)
