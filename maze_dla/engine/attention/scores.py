"""Scores of heads: how much of the attention of queries falls on the keys that a relation names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.engine.attention.partners import partners_of
from maze_dla.engine.attention.patterns import pattern_sites, share_for_patterns
from maze_dla.engine.attention.relations import Relations, as_mask, laid_over, places_in
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, run
from maze_dla.engine.metrics import logit
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import LOGITS, Activations
from maze_dla.errors import InputError, check_kind, check_whole
from maze_dla.results.head_scores import HeadScores

MOST_PARTNERS = 100


def head_scores(
    model: ResidualModel,
    batch: PromptBatch,
    relations: Relations,
    *,
    queries: str | Sequence[str] = "all",
    random: int = 5,
    seed: int = 0,
    sequences_at_once: int | None = None,
) -> HeadScores:
    """Attention of every head to the keys of each relation, beside its baselines, as `maze_dla.head_scores` does.

    Raises:
        InputError: the batch does not fit the model or the relations, unknown queries, or a number out of range.
        ModelError: a model that does not show its patterns.
    """
    check_kind(relations, Relations, "relations are Relations, such as those of maze.relations(batch)")
    check_fit(model, batch)
    random = check_whole("random", random, 0, MOST_PARTNERS)
    seed = check_whole("seed", seed, 0)
    laid = _LaidOver(batch, relations, partners_of(batch, relations, random, seed), _queries(batch, queries))
    layers, asked = range(model.weights.shape.n_layers), logit(batch)

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        here = asked.select(micro.prompts)
        pairs = zip(micro.prompts.tolist(), micro.rows.tolist(), strict=True)
        rows = [_of_prompt(found, layers, row, laid.weights(prompt)) for prompt, row in pairs]
        scores = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return {**scores, "metric": here(found[LOGITS]), **judged(found[LOGITS], here.answers, here.foils)}

    share = share_for_patterns(model, int(batch.lengths.max()), len(layers), sequences_at_once)
    options = {"what": "scoring heads", "sequences_at_once": sequences_at_once, "share": share}
    parts = run(model, batch, [*pattern_sites(layers), LOGITS], measure, **options)
    described = describe(model, batch, asked, parts.pop("predicted"))
    asked_for = {"queries": _in_words(queries), "random": random, "random_seed": seed}
    described["info"] |= asked_for
    return HeadScores(**described, **{"correct": None, **parts}, relations=relations.names)


def _in_words(queries: str | Sequence[str]) -> str:
    return queries if isinstance(queries, str) else ", ".join(queries)


def _queries(batch: PromptBatch, queries: Any) -> Bool[Tensor, "sequence position"] | None:
    """The positions of each sequence whose queries count; None stands for those that are read.

    Raises:
        InputError: neither "all", "read" nor kinds of token of this batch.
    """
    shape = batch.sequences.shape
    if isinstance(queries, str) and queries == "all":
        return torch.ones(shape, dtype=torch.bool)
    if isinstance(queries, str) and queries == "read":
        return None
    asked = [queries] if isinstance(queries, str) else queries
    known = batch.kinds if batch.sequence_kinds is not None else ()
    if not isinstance(asked, list | tuple) or not asked or any(kind not in known for kind in asked):
        kinds = ", ".join(map(repr, ("all", "read", *known)))
        raise InputError(f"queries is one of {kinds}, or a list of kinds of token, got {queries!r:.80}")
    assert batch.sequence_kinds is not None
    return torch.isin(batch.sequence_kinds, torch.tensor([batch.kinds.index(kind) for kind in asked]))


class _Weights(NamedTuple):
    """Weights of the attention of a prompt's queries: by its own relations, and by those of others laid over it."""

    own: Float[Tensor, "relation query key"]
    random: Float[Tensor, "relation query key"]
    numbers: dict[str, Float[Tensor, " relation"] | Int[Tensor, " relation"]]


@dataclass(frozen=True, eq=False, repr=False)
class _LaidOver:
    """The relations of every prompt, and those of its partners laid over it."""

    batch: PromptBatch
    relations: Relations
    partners: Int[Tensor, "prompt partner"]
    queries: Bool[Tensor, "sequence position"] | None

    def weights(self, prompt: int) -> _Weights:
        """The weights of a prompt; random ones are NaN where no partner has such a query."""
        mask = self._mask(prompt, prompt)
        own, n_queries, uniform = weighed(mask)
        partners = [int(i) for i in self.partners[prompt] if i >= 0]
        total, known = torch.zeros_like(own), torch.zeros(len(own))
        shared, compared = torch.zeros(len(own)), torch.zeros(len(own))
        for partner in partners:
            other = self._mask(prompt, partner)
            random, n, _ = weighed(other)
            total, known = total + random, known + (n > 0)
            here = mask & self._in_both(prompt, partner)
            union = (here | other).flatten(1).sum(1)
            shared, compared = shared + (here & other).flatten(1).sum(1) / union.clamp_min(1), compared + (union > 0)
        random = total / torch.where(known > 0, known, torch.nan)[:, None, None]
        overlap = shared / torch.where(compared > 0, compared, torch.nan)
        return _Weights(own, random, {"n_queries": n_queries, "uniform": uniform, "overlap": overlap})

    def _mask(self, prompt: int, partner: int) -> Bool[Tensor, "relation query key"]:
        """The relations of the partner at the positions of the prompt, for the queries that count."""
        n, row = int(self.batch.lengths[prompt]), int(self.batch.sequence_of[prompt])
        pairs, sections = self._of(prompt)
        if partner != prompt:
            pairs = laid_over(*self._of(partner), sections)
        mask = as_mask(pairs, len(self.relations.names), n)
        counted = torch.arange(n) == n - 1 if self.queries is None else self.queries[row, :n]
        return mask & counted[:, None]

    def _in_both(self, prompt: int, partner: int) -> Bool[Tensor, "query key"]:
        """The places of the prompt that the partner has as well."""
        sections = self._of(prompt)[1]
        to = places_in(self._of(partner)[1], sections)
        held = torch.zeros(len(sections), dtype=torch.bool)
        held[to[to >= 0]] = True
        return held[:, None] & held

    def _of(self, prompt: int) -> tuple[Int[Tensor, "pair 3"], Int[Tensor, " position"]]:
        """The pairs of a prompt's sequence, and the part of the text of each of its tokens."""
        tokens = self.batch.sequence_labels[int(self.batch.sequence_of[prompt])]
        sections = self.relations.sections_of(tokens)[: int(self.batch.lengths[prompt])]
        return self.relations.of_sequence(tokens), sections


def weighed(
    mask: Bool[Tensor, "relation query key"],
) -> tuple[Float[Tensor, "relation query key"], Int[Tensor, " relation"], Float[Tensor, " relation"]]:
    """The weights that make the mean over queries of the attention on their keys, and how many queries there are.

    Queries count that have such a key and may attend to others too. The last is what uniform attention would give; it
    is NaN where no query counts.
    """
    keys, allowed = mask.sum(-1), torch.arange(1, mask.shape[-1] + 1)
    counts = (keys > 0) & (keys < allowed)
    n = counts.sum(-1)
    weights = (mask & counts[..., None]).float() / n.clamp_min(1)[:, None, None]
    uniform = torch.where(counts, keys / allowed, 0.0).sum(-1) / n
    return weights, n, uniform


def _of_prompt(found: Activations, layers: Sequence[int], row: int, weights: _Weights) -> Parts:
    """The scores of all heads for one prompt, [relation, layer, head], and its numbers."""
    n_relations, n = weights.own.shape[:2]
    both = torch.cat([weights.own, weights.random]).flatten(1)
    patterns = [found[site][row, :, :n, :n].flatten(1) for site in pattern_sites(layers)]
    both = both.to(patterns[0])
    scores = torch.stack([both @ pattern.T for pattern in patterns], 1)
    n_queries = weights.numbers["n_queries"]
    own = scores[:n_relations].masked_fill((n_queries == 0).to(scores.device)[:, None, None], torch.nan)
    return {"values": own, "random": scores[n_relations:], **weights.numbers}
