"""Training batches: one adjacency list, several origin-target pairs after it.

Every pair sees the adjacency list and its own tokens only, at the positions it would have if it stood alone, so one
pass over the list teaches many paths. The layout is that of maze-dataset's `AOTP_UT_uniform` tokens with
maze-transformer's extra BOS in front.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.training.mazes.corridors import Cells


@dataclass(frozen=True)
class Vocabulary:
    """Token ids by meaning, `cells[row * grid_n + column]` being the id of a cell."""

    ids: dict[str, int]
    cells: Int[np.ndarray, " cells"]

    @classmethod
    def from_tokens(cls, tokens: list[str], grid_n: int) -> Vocabulary:
        """The vocabulary of a tokenizer of one token a cell."""
        ids = {t: i for i, t in enumerate(tokens)}
        return cls(ids, np.array([ids[f"({r},{c})"] for r in range(grid_n) for c in range(grid_n)]))


@dataclass(frozen=True)
class TrainingBatch:
    """Sequences with the position of each token, which tokens each may see, and the loss on each prediction."""

    tokens: Int[Tensor, "maze token"]
    positions: Int[Tensor, " token"]
    visible: Bool[Tensor, "token token"]
    targets: Int[Tensor, "maze token"]
    weights: Float[Tensor, " token"]

    def to(self, device: torch.device) -> TrainingBatch:
        """The batch on a device."""
        return TrainingBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def adjacency_tokens(cells: Cells, vocab: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "mazes token"]:
    """The adjacency list of each corridor, its edges in random order and direction, with BOS in front."""
    edges = np.stack([cells[:, :-1], cells[:, 1:]], axis=-1)
    n, n_edges = edges.shape[:2]
    order = rng.random((n, n_edges)).argsort(1)
    edges = np.take_along_axis(edges, order[:, :, None], axis=1)
    edges = np.where(rng.random((n, n_edges, 1)) < 0.5, edges[..., ::-1], edges)
    tokens = np.empty((n, n_edges, 4), dtype=np.int64)
    tokens[..., 0], tokens[..., 2] = vocab.cells[edges[..., 0]], vocab.cells[edges[..., 1]]
    tokens[..., 1], tokens[..., 3] = vocab.ids["<-->"], vocab.ids[";"]
    start = np.full((n, 2), vocab.ids["<ADJLIST_START>"])  # the first is the BOS
    end = np.full((n, 1), vocab.ids["<ADJLIST_END>"])
    return np.concatenate([start, tokens.reshape(n, -1), end], axis=1)


def path_tokens(
    cells: Cells, steps: int, shown: int, vocab: Vocabulary, rng: np.random.Generator
) -> Int[np.ndarray, "mazes token"]:
    """Origin, target and the first `shown` cells of a path of `steps` steps; `<PATH_END>` where it is whole."""
    n, length = cells.shape
    first = rng.integers(length - steps, size=n)
    columns = first[:, None] + np.arange(steps + 1)
    path = vocab.cells[np.take_along_axis(cells, columns, axis=1)]
    path = np.where(rng.random((n, 1)) < 0.5, path[:, ::-1], path)

    def special(name: str) -> np.ndarray:
        return np.full((n, 1), vocab.ids[name])

    header = ["<ORIGIN_START>", path[:, :1], "<ORIGIN_END>", "<TARGET_START>", path[:, -1:], "<TARGET_END>"]
    parts = [*header, "<PATH_START>", path[:, :shown], *(["<PATH_END>"] if shown > steps else [])]
    return np.concatenate([special(p) if isinstance(p, str) else p for p in parts], axis=1)


def make_batch(
    cells: Cells, vocab: Vocabulary, rng: np.random.Generator, *, n_whole: int, n_short: int, list_weight: float = 0.1
) -> TrainingBatch:
    """`n_whole` pairs with their whole paths and `n_short` that stop after the first step, after one list.

    The loss on what cannot be known (the list, which cell is origin or target) weighs `list_weight`, on the path 1.
    """
    length = cells.shape[1]
    likely = np.arange(length - 1, 0, -1, dtype=float)  # as uniform pairs of cells would have it
    steps = 1 + rng.choice(length - 1, size=n_whole + n_short, p=likely / likely.sum())
    prefix = adjacency_tokens(cells, vocab, rng)
    suffixes = [
        path_tokens(cells, s, s + 1 if i < n_whole else 2, vocab, rng)
        for i, s in enumerate(int(s) for s in steps)
    ]  # fmt: skip
    widths = [prefix.shape[1]] + [s.shape[1] for s in suffixes]
    segment = np.repeat(np.arange(len(widths)), widths)
    within = np.concatenate([np.arange(w) for w in widths])
    positions = np.where(segment == 0, within, within + widths[0])
    visible = ((segment[:, None] == segment) | (segment == 0)) & (positions[:, None] >= positions)
    tokens = np.concatenate([prefix, *suffixes], axis=1)
    targets = np.roll(tokens, -1, axis=1)
    weights = np.where((segment > 0) & (within >= 6), 1.0, list_weight)
    ends = np.cumsum(widths) - 1
    weights[ends[1:]] = 0.0  # nothing follows the last token of a pair
    targets[:, ends[0]] = vocab.ids["<ORIGIN_START>"]
    return TrainingBatch(
        torch.from_numpy(tokens),
        torch.from_numpy(positions),
        torch.from_numpy(visible),
        torch.from_numpy(targets),
        torch.from_numpy(weights).float(),
    )
