"""Partners: other things' prompts, whose relations are laid over a prompt's patterns."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.engine.attention.relations import Relations
from maze_dla.engine.prompts import PromptBatch


def partners_of(batch: PromptBatch, relations: Relations, n: int, seed: int) -> Int[Tensor, "prompt partner"]:
    """For each prompt `n` prompts about other things, of the same layout where there are any.

    Among prompts of one layout (as many tokens in each part of the text) things stand in a circle, and partners are
    the next ones: every prompt of a circle is partner as often as every other, if each thing has one prompt in it.
    So whatever a head does alike in all of them is at its baseline exactly. A thing that is alone with its layout takes
    the things whose prompts are nearest in length. -1 where all prompts are about one thing.
    """
    names = [str(name) for name in _listed(batch)]
    order = {name: hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in set(names)}
    circles: dict[Hashable, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, name in enumerate(names):
        circles[_layout(batch, relations, i)][name].append(i)
    found = torch.full((len(batch), n), -1)
    for circle in circles.values():
        if len(circle) > 1:
            _fill_from_circle(found, circle, sorted(circle, key=order.__getitem__))
        else:
            for i in next(iter(circle.values())):
                _fill_from_nearest(found, i, batch.lengths, names, order)
    return found


def _listed(batch: PromptBatch) -> Sequence[object]:
    held = batch.columns[batch.unit]
    return held.tolist() if isinstance(held, Tensor) else held


def _layout(batch: PromptBatch, relations: Relations, prompt: int) -> tuple[int, bytes]:
    """The number of tokens, and the part of the text that each stands in."""
    n, tokens = int(batch.lengths[prompt]), batch.sequence_labels[int(batch.sequence_of[prompt])]
    return n, relations.sections_of(tokens)[:n].numpy().tobytes()


def _fill_from_circle(found: Int[Tensor, "prompt partner"], circle: dict[str, list[int]], order: list[str]) -> None:
    for at, name in enumerate(order):
        for shift in range(found.shape[1]):
            theirs = circle[order[(at + 1 + shift % (len(order) - 1)) % len(order)]]
            for k, prompt in enumerate(circle[name]):
                found[prompt, shift] = theirs[k % len(theirs)]


def _fill_from_nearest(
    found: Int[Tensor, "prompt partner"],
    prompt: int,
    lengths: Int[Tensor, " prompt"],
    names: Sequence[str],
    order: dict[str, bytes],
) -> None:
    """The prompts nearest in length, one of each other thing; from the first again where there are fewer."""
    distance = (lengths - lengths[prompt]).abs().tolist()
    nearest: dict[str, int] = {}
    for i in sorted(range(len(names)), key=lambda i: (distance[i], order[names[i]])):
        if names[i] != names[prompt]:
            nearest.setdefault(names[i], i)
    chosen = list(nearest.values())
    for k in range(found.shape[1] if chosen else 0):
        found[prompt, k] = chosen[k % len(chosen)]
