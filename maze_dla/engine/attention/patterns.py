"""Attention patterns of all queries of chosen prompts and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, batch_limits, run
from maze_dla.engine.metrics import logit
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import LOGITS, Activations, Site
from maze_dla.errors import InputError, check_whole
from maze_dla.results.attention import AttentionResult, size_in_words
from maze_dla.results.parts import Head, place_of_head

MOST_BYTES = 1 << 31  # of the patterns that a result holds
BYTES_AT_ONCE = 1 << 28  # of the patterns of a micro-batch, of all layers that are recorded
COPIES = 3  # of a layer's patterns, which are there together while they are computed


def attention(
    model: ResidualModel,
    batch: PromptBatch,
    heads: Sequence[Head] | None = None,
    *,
    most_bytes: int = MOST_BYTES,
    sequences_at_once: int | None = None,
) -> AttentionResult:
    """Attention patterns of every query, as `maze_dla.attention` gives them.

    Raises:
        InputError: the batch does not fit the model, heads that are no list of the model's, or patterns of more bytes
            than `most_bytes`.
        ModelError: a model that does not show its patterns.
    """
    check_fit(model, batch)
    shape, longest = model.weights.shape, int(batch.lengths.max())
    places = places_of(heads, shape.n_layers, shape.n_heads)
    _check_size(model, batch, len(places), check_whole("most_bytes", most_bytes, 1))
    asked = logit(batch)

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        here = asked.select(micro.prompts)
        patterns = _of_prompts(found, micro, places, longest)
        return {
            "patterns": patterns.cpu(),
            "metric": here(found[LOGITS]),
            **judged(found[LOGITS], here.answers, here.foils),
        }

    layers = sorted({layer for layer, _ in places})
    share = share_for_patterns(model, longest, len(layers), sequences_at_once)
    options = {"what": "attention", "sequences_at_once": sequences_at_once, "share": share}
    parts = run(model, batch, [*pattern_sites(layers), LOGITS], measure, **options)
    described = describe(model, batch, asked, parts.pop("predicted"))
    labels = tuple(f"L{layer}H{head}" for layer, head in places)
    return AttentionResult(**described, **{"correct": None, **parts}, head_labels=labels)


def pattern_sites(layers: Sequence[int]) -> list[Site]:
    """The patterns of some layers at all positions."""
    return [Site("pattern", layer, position="all") for layer in layers]


def places_of(heads: Any, n_layers: int, n_heads: int) -> list[tuple[int, int]]:
    """Layer and head of the chosen ones, in the order that was given; of all of them where heads is None.

    Raises:
        InputError: no list of heads, one that the model does not have, or one twice.
    """
    if heads is None:
        return [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    if isinstance(heads, str) or not isinstance(heads, Sequence) or not heads:
        raise InputError(f"heads is a list of heads, such as ['L5H3', (2, 1)], or None for all, got {heads!r:.80}")
    places = [place_of_head(head, n_layers, n_heads) for head in heads]
    if twice := [place for place in places if places.count(place) > 1]:
        raise InputError(f"heads has L{twice[0][0]}H{twice[0][1]} twice, expected once")
    return places


def share_for_patterns(model: ResidualModel, longest: int, n_layers: int, sequences_at_once: int | None) -> float:
    """The share of a plain run's tokens that a micro-batch may have, so that its patterns fit into memory."""
    n_bytes = max(model.weights.W_U.element_size(), 4)
    of_a_token = longest * model.weights.shape.n_heads * (n_layers + COPIES) * n_bytes
    return min(1.0, BYTES_AT_ONCE / of_a_token / batch_limits(model.weights, sequences_at_once).tokens)


def _check_size(model: ResidualModel, batch: PromptBatch, n_heads: int, most_bytes: int) -> None:
    """Refuse patterns that are too large, and say how to choose fewer."""
    longest, n_bytes = int(batch.lengths.max()), 8 if model.weights.W_U.dtype == torch.float64 else 4
    size = len(batch) * n_heads * longest**2 * n_bytes
    if size > most_bytes:
        raise InputError(
            f"the patterns of {len(batch)} prompts, {n_heads} heads and up to {longest} positions take "
            f"{size_in_words(size)}, at most {size_in_words(most_bytes)} are kept: choose prompts "
            "(batch.select(range(10))) or heads (heads=['L2H1']), or allow more (most_bytes=); head_scores takes any "
            "number of prompts and keeps no patterns"
        )


def _of_prompts(
    found: Activations, micro: MicroBatch, places: Sequence[tuple[int, int]], longest: int
) -> Float[Tensor, "prompt head query key"]:
    """The chosen heads' patterns of each prompt, NaN at queries after its end."""
    device = found[LOGITS].device
    rows, reads = to_device(micro.rows, device), to_device(micro.positions, device)
    chosen = [found[Site("pattern", layer, position="all")][:, head][rows] for layer, head in places]
    patterns = cut_to(torch.stack(chosen, 1), longest)
    later = torch.arange(longest, device=device) > reads[:, None]
    return patterns.masked_fill(later[:, None, :, None], torch.nan)


def cut_to(patterns: Float[Tensor, "*rest query key"], n: int) -> Float[Tensor, "*rest n n"]:
    """Patterns of the first `n` positions, filled up with zeros where there are fewer."""
    missing = n - patterns.shape[-1]
    return pad(patterns, (0, missing, 0, missing)) if missing > 0 else patterns[..., :n, :n]
