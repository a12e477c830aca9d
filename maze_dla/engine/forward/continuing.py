"""Sequences that go on token by token, each from the read position of its prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from maze_dla.engine.model import MicroBatch
from maze_dla.engine.sites import LOGITS, Activations, Site

Run = Callable[[MicroBatch, Sequence[Site]], Activations]
BLOCK = 8  # widths are multiples of it: a CPU library that caches a plan per shape then stays small


@runtime_checkable
class Continuation(Protocol):
    """Walks of a model: each has the tokens of its prompt and those that it was given since."""

    @property
    def logits(self) -> Float[Tensor, "walk vocab"]:
        """The logits after the last token of each walk, in front of a soft cap."""
        ...

    def advance(self, tokens: Int[Tensor, " walk"]) -> None:
        """Give each walk one more token."""
        ...

    def keep(self, walks: Int[Tensor, " kept"]) -> None:
        """Go on with these walks alone, in this order; a walk that is named twice goes on twice."""
        ...


@runtime_checkable
class Continuable(Protocol):
    """A forward pass that goes on from what it has computed; any other one is run anew for each token."""

    def continued(self, micro: MicroBatch, n_tokens: int) -> Continuation:
        """One walk for each prompt of the micro-batch; about `n_tokens` of the prompts' tokens are run together."""
        ...


class WholePasses:
    """A `Continuation` by a whole forward pass for each token, of every walk from its first token on."""

    def __init__(self, run: Run, micro: MicroBatch, n_tokens: int, *, ready: bool = False) -> None:
        """`ready` leaves out the logits after the prompts, which are known already."""
        self._run, self._n_tokens = run, n_tokens
        self.tokens, self.lengths = micro.tokens.index_select(0, micro.rows), micro.positions + 1
        self.logits: Float[Tensor, "walk vocab"] = torch.empty(len(self.tokens), 0)
        if not ready:
            self.repeat()

    @property
    def micro(self) -> MicroBatch:
        """All walks as they are, each read at its last token."""
        each = torch.arange(len(self.tokens))
        return MicroBatch(self.tokens, each, each, self.lengths - 1)

    def note(self, tokens: Int[Tensor, " walk"]) -> None:
        """Give each walk one more token, without its logits."""
        if missing := int(self.lengths.max()) + 1 - self.tokens.shape[1]:
            self.tokens = pad(self.tokens, (0, max(-(-missing // BLOCK) * BLOCK, 0)))
        self.tokens[torch.arange(len(tokens)), self.lengths] = tokens.cpu()
        self.lengths = self.lengths + 1

    def advance(self, tokens: Int[Tensor, " walk"]) -> None:
        """Give each walk one more token."""
        self.note(tokens)
        self.repeat()

    def keep(self, walks: Int[Tensor, " kept"]) -> None:
        """Go on with these walks alone, in this order; a walk that is named twice goes on twice."""
        self.tokens, self.lengths = self.tokens[walks], self.lengths[walks]
        self.logits = self.logits.index_select(0, walks.to(self.logits.device))

    def repeat(self) -> None:
        """Run all walks from their first token on, for the logits after their last."""
        pieces = pieces_of(self.micro, self._n_tokens)
        self.logits = torch.cat([self._run(piece, [LOGITS])[LOGITS] for piece in pieces])


def pieces_of(micro: MicroBatch, n_tokens: int) -> Iterator[MicroBatch]:
    """Sequences that follow each other, in pieces of so many tokens and of at least one sequence.

    The prompts of the micro-batch have to be in the order of its sequences.
    """
    ends = torch.zeros(len(micro.tokens), dtype=torch.long)
    ends.scatter_reduce_(0, micro.rows, micro.positions + 1, reduce="amax")
    first = 0
    while first < len(micro.tokens):
        widths = ends[first:].cummax(0).values
        n = max(int((widths * torch.arange(1, len(widths) + 1) <= n_tokens).sum()), 1)
        longest = int(widths[n - 1])
        width = min(-(-longest // BLOCK) * BLOCK, micro.tokens.shape[1])
        inside = (micro.rows >= first) & (micro.rows < first + n)
        where = micro.rows[inside] - first, micro.positions[inside]
        yield MicroBatch(micro.tokens[first : first + n, :width], micro.prompts[inside], *where)
        first += n
