"""The strongest sites or parts of any kind, by name."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.errors import check_whole
from maze_dla.results.buckets import N_BUCKETS, bucket_sums
from maze_dla.results.held_out import ByBucket, held_out
from maze_dla.results.statistics import Summary
from maze_dla.results.torch_defaults import torch_defaults

PLACE = re.compile(r"L(\d+)[HN](\d+)", re.ASCII)


class RankedPart(NamedTuple):
    """A head, a neuron or any other part or site, with its mean contribution or effect and 95% interval, in logits.

    `mean`, `low` and `high` are estimated on mazes that did not choose it; `chosen` is the share of the halves of mazes
    that chose it, and `in_sample` its mean over all prompts, which choosing has made too large. Where `chosen` is None,
    the prompts that chose it measure it too: of fewer than 8 mazes, and of positions, which not all prompts have.
    """

    name: str
    at: tuple[int, ...]
    """Its index along each axis of what was ranked."""
    mean: float
    low: float
    high: float
    chosen: float | None = None
    in_sample: float | None = None

    @property
    def layer(self) -> int:
        """The layer of a head or neuron."""
        return self._place[0]

    @property
    def number(self) -> int:
        """The number of a head or neuron in its layer."""
        return self._place[1]

    @property
    def may_be_zero(self) -> bool:
        """Whether the interval includes zero."""
        return self.low <= 0 <= self.high

    @property
    def _place(self) -> tuple[int, int]:
        named = PLACE.fullmatch(self.name)
        if named is None:
            raise AttributeError(f"{self.name} is no head or neuron: it has no layer and number, its place is .at")
        return int(named[1]), int(named[2])

    def __repr__(self) -> str:
        """As "L5H3 +0.350 [+0.199, +0.500]"; without an interval where there was one prompt.

        It says where the interval includes zero, and where the mean is of the mazes that chose the part.
        """
        return f"{self.name} {_estimate_in_words(self.mean, self.low, self.high, self.chosen is None)}"


class RankedHead(NamedTuple):
    """A head with its mean attention to the keys of a relation, and how far that is above its baseline.

    `above`, `low` and `high` are attention minus baseline with a clustered 95% interval, estimated on mazes that did
    not choose the head; where `chosen` is None, the prompts that chose it measure it too.
    """

    name: str
    layer: int
    head: int
    score: float
    """Mean attention to these keys, over all prompts."""
    baseline: float
    """The same to the keys of other mazes, or of uniform attention, as `against` says."""
    above: float
    low: float
    high: float
    against: str
    chosen: float | None = None

    def __repr__(self) -> str:
        """As "L2H1 pays them 0.83 (another maze's keys: 0.22), +0.610 [+0.553, +0.667]".

        It says where the interval includes zero, and where the difference is of the mazes that chose the head.
        """
        above = _estimate_in_words(self.above, self.low, self.high, self.chosen is None)
        return f"{self.name} pays them {self.score:.2f} ({self.against}: {self.baseline:.2f}), {above}"


def _estimate_in_words(mean: float, low: float, high: float, in_sample: bool) -> str:
    """As "+0.350 [+0.199, +0.500]", with marks: includes zero, measured on the prompts that chose it."""
    if math.isnan(low):
        return f"{mean:+.3f}"
    marks = [", includes zero" * (low <= 0 <= high), ", of the prompts that chose it" * in_sample]
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" + "".join(marks)


@torch_defaults()
def ranked(summary: Summary, names: Sequence[str], k: int, held: ByBucket | None = None) -> list[RankedPart]:
    """The `k` sites with the largest means by size, strongest first.

    Args:
        summary: the means with their intervals, of any shape.
        names: of the sites, in row-major order.
        k: how many.
        held: sums by bucket, where sites are to be chosen on some mazes and measured on others.

    Raises:
        InputError: k is no whole number, or below 0.
    """
    k = check_whole("k", k, 0)
    shape, means = summary.mean.shape, summary.mean.flatten()
    known = min(k, int((~means.isnan()).sum()))
    if known == 0 or held is None or held.few:
        size = means.abs().nan_to_num(-1.0)
        order = size.argsort(descending=True, stable=True)[:known].tolist()
        rows = [(i, _estimate(summary, i), None) for i in order]
    else:
        found = held_out(held, known)
        order = found.means.mean.abs().argsort(descending=True, stable=True).tolist()
        rows = [(int(found.parts[i]), _estimate(found.means, i), float(found.chosen[i])) for i in order]
    return [
        RankedPart(names[i], place(i, shape), mean, low, high, chosen, float(means[i]))
        for i, (mean, low, high), chosen in rows
    ]


def _estimate(summary: Summary, i: int) -> tuple[float, float, float]:
    mean, low, high = (float(getattr(summary, name).flatten()[i]) for name in ("mean", "low", "high"))
    return mean, low, high


def sums_of_buckets(values: Float[Tensor, "prompt ..."], buckets: Int[Tensor, " prompt"], n_units: int) -> ByBucket:
    """The sums by bucket of numbers that every prompt has."""
    return ByBucket(bucket_sums(values, buckets), buckets.bincount(minlength=N_BUCKETS), n_units)


def place(number: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The index along each axis of an entry in row-major order."""
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(number), tuple(shape)))
