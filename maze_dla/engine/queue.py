"""A batch in pieces for forward passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

if TYPE_CHECKING:
    from maze_dla.engine.prompts import PromptBatch


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """Part of a batch for one forward pass: which sequences to run, and what to read in them."""

    tokens: Int[Tensor, "sequence position"]
    prompts: Int[Tensor, "prompt"]
    rows: Int[Tensor, "prompt"]
    positions: Int[Tensor, "prompt"]
    kinds: Int[Tensor, "sequence position"] | None = None


class SequenceQueue:
    """The sequences of a batch, the longest first, those of one length that begin alike side by side.

    Each is as long as its last read position; one that no prompt reads is not there.
    """

    def __init__(self, batch: PromptBatch) -> None:
        self._batch = batch
        n = len(batch.sequence_lengths)
        self._last_read = torch.zeros(n, dtype=torch.long)
        self._last_read.scatter_reduce_(0, batch.sequence_of, batch.lengths, reduce="amax")
        last_read, rows = self._last_read.tolist(), batch.sequences.numpy()
        read = [i for i in range(n) if last_read[i] > 0]
        self._order = sorted(read, key=lambda i: (-last_read[i], rows[i, : last_read[i]].tobytes()))
        together = batch.sequence_of.argsort(stable=True)
        self._prompts_of = together.split(batch.sequence_of.bincount(minlength=n).tolist())
        self._next = 0

    def take(self, n_sequences: int, n_tokens: int) -> ReadPlan | None:
        """The next sequences: at least one, at most so many of them and of their tokens. None when all are taken."""
        if self._next == len(self._order):
            return None
        longest = int(self._last_read[self._order[self._next]])
        n = max(min(n_sequences, n_tokens // longest), 1)
        chosen = self._order[self._next : self._next + n]
        self._next += len(chosen)
        return self._plan(chosen, longest)

    def give_back(self, plan: ReadPlan) -> None:
        """Put the sequences that were taken last in front again."""
        self._next -= len(plan.tokens)

    def _plan(self, chosen: list[int], longest: int) -> ReadPlan:
        """Widths are multiples of 8: a CPU library that caches a plan per shape then stays small."""
        batch = self._batch
        width = min(-(-longest // 8) * 8, batch.sequences.shape[1])
        read = torch.arange(width) < self._last_read[chosen][:, None]
        tokens = batch.sequences[chosen, :width].where(read, 0)  # what pads may be no token at all
        prompts = [self._prompts_of[i] for i in chosen]
        rows = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor([len(p) for p in prompts]))
        together = torch.cat(prompts)
        kinds = None if batch.sequence_kinds is None else batch.sequence_kinds[chosen, :width]
        return ReadPlan(tokens, together, rows, batch.read_positions[together], kinds)
