"""Patterns, scores of heads and distances by hand: several lengths, several prompts of one maze, seeded noise."""

from __future__ import annotations

from typing import Any

import torch

from maze_dla.results.attention import AttentionResult
from maze_dla.results.distances import DistanceResult
from maze_dla.results.head_scores import HeadScores
from tests.results.causal_results import described, noise

N, N_LAYERS, N_HEADS = 24, 2, 3
LABELS = tuple(f"L{layer}H{head}" for layer in range(N_LAYERS) for head in range(N_HEADS))
RELATIONS = ("previous token", "connected cells", "elsewhere")


def make_attention(lengths: tuple[int, ...] = (5, 7, 6, 7), n_heads: int = 6, **changes: Any) -> AttentionResult:
    n, width = len(lengths), max(lengths)
    scores = noise(n, n_heads, width, width).masked_fill(~torch.ones(width, width, dtype=torch.bool).tril(), -torch.inf)
    beyond = torch.arange(width) >= torch.tensor(lengths)[:, None]
    patterns = scores.softmax(-1).masked_fill(beyond[:, None, :, None], torch.nan)
    fields = {
        **described(list(lengths), 2),
        "metric": noise(n, seed=2),
        "patterns": patterns,
        "head_labels": LABELS[:n_heads],
    }
    return AttentionResult(**{**fields, **changes})


def make_scores(n: int = N, *, n_mazes: int | None = 12, **changes: Any) -> HeadScores:
    """L0H1 looks at the previous token, L1H2 at connected cells; L1H0 scores as much in other mazes."""
    shape = (n, len(RELATIONS), N_LAYERS, N_HEADS)
    values = 0.2 + 0.01 * noise(*shape, seed=1)
    random = 0.2 + 0.01 * noise(*shape, seed=2)
    values[:, 0, 0, 1] += 0.6
    random[:, 0] = values[:, 0]
    values[:, 1, 1, 2] += 0.5
    values[:, 1, 1, 0] += 0.4
    random[:, 1, 1, 0] += 0.4
    n_queries = torch.tensor([6, 5, 4]).repeat(n, 1)
    uniform = torch.tensor([0.2, 0.1, 0.1]).repeat(n, 1)
    none = torch.arange(n) % 4 == 0  # every fourth prompt has no query of the last relation
    values[none, 2], uniform[none, 2], n_queries[none, 2] = torch.nan, torch.nan, 0
    fields = {
        **described([5] * n, n_mazes, queries="all"),
        "metric": noise(n, seed=3),
        "values": values,
        "random": random,
        "uniform": uniform,
        "n_queries": n_queries,
        "overlap": torch.tensor([1.0, 0.2, 0.1]).repeat(n, 1),
        "relations": RELATIONS,
    }
    return HeadScores(**{**fields, **changes})


def make_distances(n: int = N, *, n_mazes: int | None = 12, **changes: Any) -> DistanceResult:
    """The nearer the more attention for L0H0; none is known of the last head."""
    distance = torch.arange(6.0)
    attention = (0.1 + torch.stack([0.02 * (5 - distance), 0 * distance, 0.01 * distance])).repeat(n, 1, 1)
    attention = attention + 0.005 * noise(n, 3, 6, seed=1)
    attention[torch.arange(n) % 2 == 0, :, 4:] = torch.nan
    correlation = torch.tensor([-0.8, 0.0, torch.nan]) + 0.1 * noise(n, 3, seed=2).clamp(-1, 1)
    fields = {
        **described([5] * n, n_mazes, query="read", distance="maze"),
        "metric": noise(n, seed=3),
        "correlation": correlation,
        "attention": attention,
        "head_labels": LABELS[:3],
    }
    return DistanceResult(**{**fields, **changes})
