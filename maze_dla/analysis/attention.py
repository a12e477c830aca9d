"""Attention of all queries: patterns, and scores of heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maze_dla.adapters.transformer_lens.view import Forward
from maze_dla.analysis.running import BATCH, running
from maze_dla.engine.attention import patterns, scores
from maze_dla.engine.attention.patterns import MOST_BYTES
from maze_dla.engine.attention.relations import Relations
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind
from maze_dla.results.attention import AttentionResult
from maze_dla.results.head_scores import HeadScores
from maze_dla.results.parts import Head


def attention(
    model: Any,
    batch: PromptBatch,
    heads: Sequence[Head] | None = None,
    *,
    most_bytes: int = MOST_BYTES,
    forward: Forward = "auto",
    sequences_at_once: int | None = None,
) -> AttentionResult:
    """How much every query of each prompt attends to every key: [prompt, head, query, key], one forward pass.

    A row sums to 1; keys after the query have 0, rows of queries after a prompt's end are NaN.

    Args:
        model: a `MazeModel`, a model of TransformerLens, or the engine's view of one.
        batch: the prompts; choose some with `batch.select(range(10))`.
        heads: which heads, each (layer, head), a name such as "L5H3" or an entry of `scores.top(...)`; default all,
            layer by layer. The shape of the result is the same either way.
        most_bytes: how much memory the patterns may take; prompts times heads times tokens squared is soon a lot.
        forward: "auto" or "hooked", as in `attribute`.
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers.

    Raises:
        InputError: the batch does not fit the model, heads that are none of its own, or patterns that would take more
            than `most_bytes`, with the size that they would have.
        ModelError: a model that does not show its patterns.
    """
    check_kind(batch, PromptBatch, BATCH)
    options = {"most_bytes": most_bytes, "sequences_at_once": sequences_at_once}
    with running(model, forward) as residual:
        return patterns.attention(residual, batch, heads, **options)


def head_scores(
    model: Any,
    batch: PromptBatch,
    relations: Relations,
    *,
    queries: str | Sequence[str] = "all",
    random: int = 5,
    seed: int = 0,
    forward: Forward = "auto",
    sequences_at_once: int | None = None,
) -> HeadScores:
    """How much of each head's attention falls on the keys of each relation, beside two baselines.

    A score is the mean over a prompt's queries of the attention on the keys that the relation names for them; queries
    count that have such a key and may attend to others too. Beside it stand what uniform attention would score, and the
    score for relations of other mazes (or texts) laid over the same patterns, which a head reaches that always looks at
    the same place or so many tokens back. One forward pass; patterns are never kept.

    Args:
        model: a `MazeModel`, a model of TransformerLens, or the engine's view of one.
        batch: the prompts.
        relations: of `maze.relations(batch)` or `text_relations(batch)`, or your own by `Relations.of(batch, {...})`.
        queries: "all" of them; "read", the last token of each prompt alone; or the kind of token that queries are of,
            one of `batch.kinds` such as "path", or a list of kinds.
        random: how many other mazes' relations are laid over each prompt, of the same layout where there are any; 0
            for none.
        seed: of the choice of these mazes.
        forward: "auto" or "hooked", as in `attribute`.
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers.

    Raises:
        InputError: the batch does not fit the model, relations of other prompts, unknown queries, or a number out of
            range.
        ModelError: a model that does not show its patterns.
    """
    check_kind(batch, PromptBatch, BATCH)
    options = {"queries": queries, "random": random, "seed": seed, "sequences_at_once": sequences_at_once}
    with running(model, forward) as residual:
        return scores.head_scores(residual, batch, relations, **options)
