"""Arrays [prompt, vocab] of which few entries matter, held without the array."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.engine.ids import NONE

BATCH_ENTRIES = 1 << 20  # entries of a dense array looked at together
SMALLEST = 0.25  # the sum of a row's absolute values, as a share of the pattern's


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Row p is a pattern that all rows share, plus `values[p, k]` at token `ids[p, k]`.

    Rows are filled up with the value 0 at token 0. `by_rule` says that they were given as one row for all, and would
    be alike for any prompts.
    """

    pattern: Float[Tensor, " vocab"]
    ids: Int[Tensor, "prompt k"]
    values: Float[Tensor, "prompt k"]
    by_rule: bool = False

    @classmethod
    def alike(cls, pattern: Tensor, n: int) -> SparseRows:
        """`n` rows that are all the pattern."""
        none = torch.zeros(n, 0, dtype=torch.long)
        return cls(pattern.double(), none, none.double(), by_rule=True)

    @classmethod
    def listed(cls, ids: Int[Tensor, "prompt k"], d_vocab: int) -> SparseRows:
        """1 at the ids of each row, which are filled up with -1, and 0 elsewhere."""
        return cls(torch.zeros(d_vocab, dtype=torch.float64), ids.clamp_min(0), (ids != NONE).double())

    @classmethod
    def of(cls, array: Tensor) -> SparseRows:
        """A dense or sparse array [prompt, vocab], looked at a few rows at a time.

        The pattern is zero, or the first row where most entries of the other rows are as there and no row is much
        smaller than it: a small row as the difference of two large ones would be rounded as these are.
        """
        if array.layout != torch.strided:
            return cls._of_entries(array.to_sparse_coo().coalesce())
        n, d_vocab = array.shape
        rows = max(BATCH_ENTRIES // max(d_vocab, 1), 1)
        pieces = [array[i : i + rows] for i in range(0, n, rows)]
        not_zero, not_first = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long)
        sizes = torch.zeros(n, dtype=torch.float64)
        for i, piece in enumerate(pieces):  # counted into one array: small ones would keep memory from being used again
            torch.sum(piece != 0, 1, out=not_zero[i * rows : (i + 1) * rows])
            torch.sum(piece != array[0], 1, out=not_first[i * rows : (i + 1) * rows])
            numbers = piece if piece.is_floating_point() else piece.float()
            sizes[i * rows : (i + 1) * rows] = torch.linalg.vector_norm(numbers, 1, 1)
        alike = bool((sizes >= SMALLEST * sizes[0]).all())
        as_first = alike and int(not_first.sum()) < int(not_zero.sum()) // 2
        pattern = array[0].double() if as_first else torch.zeros(d_vocab, dtype=torch.float64)
        width = int((not_first if as_first else not_zero).max())
        ids, values = torch.zeros(n, width, dtype=torch.long), torch.zeros(n, width, dtype=torch.float64)
        for i, piece in enumerate(pieces):
            row, token = torch.nonzero(piece != array[0] if as_first else piece).T
            nth = _nth(row)
            ids[i * rows :][row, nth] = token
            values[i * rows :][row, nth] = piece[row, token].double() - pattern[token]
        return cls(pattern, ids, values)

    @classmethod
    def _of_entries(cls, array: Tensor) -> SparseRows:
        n, d_vocab = array.shape
        where, entries = array.indices().T, array.values().double()
        width = int(where[:, 0].bincount(minlength=1).max())
        ids, values = torch.zeros(n, width, dtype=torch.long), torch.zeros(n, width, dtype=torch.float64)
        nth = _nth(where[:, 0])
        ids[where[:, 0], nth], values[where[:, 0], nth] = where[:, 1], entries
        return cls(torch.zeros(d_vocab, dtype=torch.float64), ids, values)

    def sums(self) -> Float[Tensor, " prompt"]:
        """The sum of each row."""
        return self.pattern.sum() + self.values.sum(1)

    def are_zero(self) -> Bool[Tensor, " prompt"]:
        """Which rows are zero everywhere."""
        here = self.pattern[self.ids]
        changed = (here + self.values != 0).long() - (here != 0).long()
        return (self.pattern != 0).sum() + changed.sum(1) == 0

    def at(self, tokens: Int[Tensor, "prompt j"]) -> Float[Tensor, "prompt j"]:
        """The entries of each row at some tokens of its own; 0 where that is -1."""
        found = self.pattern[tokens.clamp_min(0)]
        for j in range(tokens.shape[1]):
            found[:, j] += (self.values * (self.ids == tokens[:, [j]])).sum(1)
        return found * (tokens != NONE)

    def dense(self) -> Float[Tensor, "prompt vocab"]:
        """The array itself: for small batches and for tests."""
        return self.pattern.repeat(len(self.ids), 1).scatter_add(1, self.ids, self.values)


def _nth(row: Int[Tensor, " entry"]) -> Int[Tensor, " entry"]:
    """For entries in the order of their rows the place of each in its row."""
    counts = row.bincount()
    return torch.arange(len(row)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
