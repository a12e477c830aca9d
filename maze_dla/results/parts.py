"""Heads and neurons: their places, their names, and the strongest of them."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from maze_dla.errors import InputError, check_whole, whole_number
from maze_dla.results.statistics import Summary


class RankedPart(NamedTuple):
    """A head or neuron with its mean contribution over prompts and 95% interval, in logits."""

    layer: int
    number: int
    mean: float
    low: float
    high: float
    name: str

    def __repr__(self) -> str:
        """As "L5H3 +0.350 [+0.199, +0.500]"; without an interval where there was one prompt."""
        interval = "" if math.isnan(self.low) else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.name} {self.mean:+.3f}{interval}"


Head = tuple[int, int] | RankedPart | str


def place_of_head(head: object, n_layers: int, n_heads: int) -> tuple[int, int]:
    """Layer and head of a head that is given as (5, 3), as "L5H3" or as an entry of `top_heads()`.

    Raises:
        InputError: anything else, a neuron, or a head that the model does not have.
    """
    place = _place(head)
    if place is None:
        raise InputError(
            f"head is (layer, head) such as (5, 3), a name such as 'L5H3', or an entry of top_heads(), got {head!r:.80}"
        )
    if not (0 <= place[0] < n_layers and 0 <= place[1] < n_heads):
        raise InputError(
            f"the model has {n_layers} layers with {n_heads} heads each, counted from 0, got head {head!r:.80}"
        )
    return place


def _place(head: object) -> tuple[int, int] | None:
    """The two numbers, None where there are none."""
    if isinstance(head, RankedPart):
        head = head.name
    if isinstance(head, str):
        named = re.fullmatch(r"L(\d+)H(\d+)", head, re.ASCII)
        return (int(named[1]), int(named[2])) if named else None
    if not isinstance(head, tuple | list) or len(head) != 2:
        return None
    layer, number = map(whole_number, head)
    return None if layer is None or number is None else (layer, number)


def strongest(summary: Summary, k: int, letter: str) -> list[RankedPart]:
    """The parts of a [layer, part] summary with the largest means by size, named by layer, letter and number.

    Raises:
        InputError: k is no whole number, or below 0.
    """
    k = check_whole("k", k, 0)
    width = summary.mean.shape[1]
    order = summary.mean.abs().flatten().argsort(descending=True, stable=True)[:k].tolist()
    ranked = []
    for layer, number in (divmod(i, width) for i in order):
        mean, low, high = (float(t[layer, number]) for t in (summary.mean, summary.low, summary.high))
        ranked.append(RankedPart(layer, number, mean, low, high, f"L{layer}{letter}{number}"))
    return ranked
