"""Parts that are picked for being the largest, estimated on mazes that did not pick them.

The largest of many noisy means are partly large by chance: on other mazes they are smaller. So each fixed half of the
buckets picks its k largest, and the other half measures them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.results.buckets import N_SPLITS, halves
from maze_dla.results.statistics import Summary, interval_of
from maze_dla.results.torch_defaults import torch_defaults

FEWEST = 8  # mazes, and no fewer than half as many buckets


@dataclass(frozen=True, eq=False)
class ByBucket:
    """Sums over the prompts of each bucket, the number of prompts of each, and of how many mazes they are."""

    sums: Float[Tensor, "bucket ..."]
    counts: Int[Tensor, " bucket"]
    n_units: int

    @property
    def few(self) -> bool:
        """Whether there are too few mazes to choose on some and measure on others."""
        return self.n_units < FEWEST or int((self.counts > 0).sum()) < FEWEST // 2


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The k parts that were chosen most often, with the share of halves that chose them and their held-out means.

    `together` is the held-out sum of each half's own list, whichever parts are on it. Intervals are clustered by
    bucket, for the choices that were made.
    """

    parts: Int[Tensor, " k"]
    chosen: Float[Tensor, " k"]
    means: Summary
    together: Summary


@torch_defaults()
def held_out(held: ByBucket, k: int) -> HeldOut:
    """The held-out estimates of the k parts with the largest means by size.

    Each part's estimate is the mean over the halves of the 32 splits whose other half has it among its k largest.
    """
    sums, counts = held.sums.double().flatten(1), held.counts.double()
    inside = halves().double()
    n = inside @ counts
    valid = (n > 0) & (n.roll(N_SPLITS) > 0)
    means = (inside @ sums) / n.clamp_min(1)[:, None]
    k = min(k, sums.shape[1])
    picked = torch.zeros_like(means).scatter_(1, means.abs().topk(k).indices, 1.0)
    listed = picked.roll(N_SPLITS, 0) * valid[:, None]  # by the other half
    times = listed.sum(0)
    parts = _most_often(times, sums.sum(0), k)
    weights = inside / n.clamp_min(1)[:, None]
    of_parts = weights.T @ (listed[:, parts] / times[parts].clamp_min(1))
    on_list = ((weights.T @ listed) * sums).sum(1) / valid.sum()
    of_lists = (weights.T @ (listed * means).sum(1)) / valid.sum()
    return HeldOut(
        parts=parts,
        chosen=times[parts] / valid.sum(),
        means=_weighted(of_parts, sums[:, parts], held),
        together=_linear(on_list, of_lists * counts, held),
    )


def _most_often(times: Float[Tensor, " part"], sums: Float[Tensor, " part"], k: int) -> Int[Tensor, " k"]:
    """The k parts that were chosen most often; of those chosen equally often the largest."""
    by_size = sums.abs().argsort(descending=True, stable=True)
    return by_size[times[by_size].argsort(descending=True, stable=True)][:k]


def _weighted(weights: Float[Tensor, "bucket k"], sums: Float[Tensor, "bucket k"], held: ByBucket) -> Summary:
    """Means whose buckets count with the weights of the halves that were chosen."""
    whole = weights * sums
    return _linear(whole, weights * held.counts.double()[:, None] * whole.sum(0), held)


def _linear(terms: Float[Tensor, "bucket ..."], expected: Float[Tensor, "bucket ..."], held: ByBucket) -> Summary:
    """A sum over buckets, whose error is that of their independent differences from what is expected of them."""
    b = int((held.counts > 0).sum())
    error = ((terms - expected).square().sum(0) * (b / (b - 1))).sqrt()
    return interval_of(terms.sum(0), error, int(held.counts.sum()), b)


def check_by_bucket(sums: Any, counts: Any, n_units: int | None) -> ByBucket | None:
    """Sums by bucket where all of it is known."""
    return None if sums is None or counts is None or n_units is None else ByBucket(sums, counts, n_units)
