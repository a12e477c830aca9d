"""Heads and neurons: their places, their names, and the strongest of them."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import torch

from maze_dla.errors import InputError, check_whole, whole_number
from maze_dla.results.held_out import ByBucket, held_out
from maze_dla.results.statistics import Summary, interval_of


class RankedPart(NamedTuple):
    """A head or neuron with its mean contribution over prompts and 95% interval, in logits.

    `mean`, `low` and `high` are estimated on mazes that did not choose the part; `chosen` is the share of the halves of
    mazes that chose it, and `in_sample` its mean over all prompts, which choosing has made too large. Of fewer than 8
    mazes all are needed to choose: then `chosen` is None, and `mean` is that of the sample.
    """

    layer: int
    number: int
    mean: float
    low: float
    high: float
    name: str
    chosen: float | None = None
    in_sample: float | None = None

    @property
    def may_be_zero(self) -> bool:
        """Whether the interval includes zero."""
        return self.low <= 0 <= self.high

    def __repr__(self) -> str:
        """As "L5H3 +0.350 [+0.199, +0.500]"; without an interval where there was one prompt.

        It says where the interval includes zero, and where the mean is of the mazes that chose the part.
        """
        return shown_estimate(self.name, self.mean, self.low, self.high, self.chosen is None)


def shown_estimate(name: str, mean: float, low: float, high: float, in_sample: bool) -> str:
    """As "L5H3 +0.350 [+0.199, +0.500]", with marks: includes zero, measured on the prompts that chose it."""
    if math.isnan(low):
        return f"{name} {mean:+.3f}"
    marks = [", includes zero" * (low <= 0 <= high), ", of the prompts that chose it" * in_sample]
    return f"{name} {mean:+.3f} [{low:+.3f}, {high:+.3f}]" + "".join(marks)


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
        above = shown_estimate("", self.above, self.low, self.high, self.chosen is None).strip()
        return f"{self.name} pays them {self.score:.2f} ({self.against}: {self.baseline:.2f}), {above}"


Head = tuple[int, int] | RankedPart | RankedHead | str
Neuron = tuple[int, int] | RankedPart | str


def place_of_head(head: object, n_layers: int, n_heads: int) -> tuple[int, int]:
    """Layer and head of a head that is given as (5, 3), as "L5H3" or as an entry of `top_heads()`.

    Raises:
        InputError: anything else, a neuron, or a head that the model does not have.
    """
    place = _place(head, "H")
    if place is None:
        raise InputError(
            f"head is (layer, head) such as (5, 3), a name such as 'L5H3', or an entry of top_heads(), got {head!r:.80}"
        )
    if not (0 <= place[0] < n_layers and 0 <= place[1] < n_heads):
        raise InputError(
            f"the model has {n_layers} layers with {n_heads} heads each, counted from 0, got head {head!r:.80}"
        )
    return place


def place_of_neuron(neuron: object, n_layers: int, d_mlp: int) -> tuple[int, int]:
    """Layer and number of a neuron that is given as (2, 117), as "L2N117" or as an entry of `top_neurons()`.

    Raises:
        InputError: anything else, a head, or a neuron that the model does not have.
    """
    place = _place(neuron, "N")
    if place is None:
        raise InputError(
            "neuron is (layer, number) such as (2, 117), a name such as 'L2N117', or an entry of top_neurons(), got "
            f"{neuron!r:.80}"
        )
    if not (0 <= place[0] < n_layers and 0 <= place[1] < d_mlp):
        raise InputError(
            f"the model has {n_layers} layers with {d_mlp} neurons each, counted from 0, got neuron {neuron!r:.80}"
        )
    return place


def _place(part: object, letter: str) -> tuple[int, int] | None:
    """The two numbers of a part whose name has this letter, None where there are none."""
    if isinstance(part, RankedPart | RankedHead):
        part = part.name
    if isinstance(part, str):
        named = re.fullmatch(rf"L(\d+){letter}(\d+)", part, re.ASCII)
        return (int(named[1]), int(named[2])) if named else None
    if not isinstance(part, tuple | list) or len(part) != 2:
        return None
    layer, number = map(whole_number, part)
    return None if layer is None or number is None else (layer, number)


def strongest(summary: Summary, k: int, letter: str, held: ByBucket | None = None) -> list[RankedPart]:
    """The parts of a [layer, part] summary with the largest means by size, named by layer, letter and number.

    Where sums by bucket are known, of at least 8 mazes, they are those that most halves of the mazes choose, with
    estimates from the others.

    Raises:
        InputError: k is no whole number, or below 0.
    """
    k = check_whole("k", k, 0)
    width = summary.mean.shape[1]
    flat = {name: getattr(summary, name).flatten() for name in ("mean", "low", "high")}
    ranked = []
    if k == 0 or width == 0 or held is None or held.few:
        order = flat["mean"].abs().argsort(descending=True, stable=True)[:k]
        for part in order.tolist():
            ranked.append(_named(part, width, letter, *(float(t[part]) for t in flat.values())))
        return ranked
    found = held_out(held, k)
    for i in found.means.mean.abs().argsort(descending=True, stable=True).tolist():
        part, (mean, low, high) = int(found.parts[i]), (float(getattr(found.means, name)[i]) for name in flat)
        more = {"chosen": float(found.chosen[i]), "in_sample": float(flat["mean"][part])}
        ranked.append(_named(part, width, letter, mean, low, high)._replace(**more))
    return ranked


def _named(part: int, width: int, letter: str, mean: float, low: float, high: float) -> RankedPart:
    layer, number = divmod(part, width)
    return RankedPart(layer, number, mean, low, high, f"L{layer}{letter}{number}", in_sample=mean)


def sum_of_strongest(summary: Summary, k: int, held: ByBucket | None) -> Summary:
    """The sum of the k strongest parts: the held-out sum of each half's own list.

    Raises:
        InputError: k is no whole number, or below 1.
    """
    k = check_whole("k", k, 1)
    if held is not None and not held.few:
        return held_out(held, k).together
    order = summary.mean.flatten().abs().argsort(descending=True, stable=True)[:k]
    together = summary.mean.flatten()[order].sum()
    return interval_of(together, torch.full_like(together, math.nan), summary.n, summary.n_clusters)
