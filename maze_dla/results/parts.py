"""Heads and neurons: their places, their names, and the strongest of them."""

from __future__ import annotations

import math
import re

import torch

from maze_dla.errors import InputError, check_whole, whole_number
from maze_dla.results.held_out import ByBucket, held_out
from maze_dla.results.ranking import RankedHead, RankedPart, ranked
from maze_dla.results.statistics import Summary, interval_of

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
    n_layers, width = summary.mean.shape
    return ranked(summary, [f"L{i}{letter}{j}" for i in range(n_layers) for j in range(width)], k, held)


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
