"""Copies of prompts that are run with edits: when an edit wakes them, and which of their tokens it can change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.engine.edits import BEFORE_ATTENTION, Edit

LONG = 32  # tokens of a branch
CLOSE = 0.9  # of the longest, the shortest length that long branches are made equal to
SHARE_OF_ONE_LENGTH = 4  # of the tokens that are run together: where as many are of one length, no shorter ones join


@dataclass(frozen=True, eq=False)
class Branches:
    """Branches in the order in which their first edits come, each from its first edited position to its read position.

    Everything in front of that is as in the plain run, since the model is causal. A branch wakes at a stage: twice the
    number of the layer where its first edit is in front of that layer's attention, one more where it is behind. The
    tokens of all branches are numbered one after the other, so that those which are awake always come first.
    """

    prompts: Int[Tensor, " branch"]
    starts: Int[Tensor, " branch"]
    lengths: Int[Tensor, " branch"]
    stages: Int[Tensor, " branch"]

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def offsets(self) -> Int[Tensor, " branch"]:
        """The first token of each."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def read_tokens(self) -> Int[Tensor, " branch"]:
        """The last token of each, where it is read."""
        return self.lengths.cumsum(0) - 1

    @cached_property
    def branch_of(self) -> Int[Tensor, " token"]:
        """The branch of each token."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    @cached_property
    def positions(self) -> Int[Tensor, " token"]:
        """The position of each token in its sequence."""
        return torch.arange(len(self.branch_of)) + (self.starts - self.offsets)[self.branch_of]

    @cached_property
    def distinct_prompts(self) -> Int[Tensor, " distinct"]:
        """The prompts that there are branches of, each once."""
        return self.prompts.unique()

    @cached_property
    def ranks(self) -> tuple[Int[Tensor, " branch"], Int[Tensor, " branch"]]:
        """For each branch the number of its prompt among the distinct ones, and its own among those of its prompt."""
        numbers = torch.searchsorted(self.distinct_prompts, self.prompts)
        order, counts = numbers.argsort(stable=True), numbers.bincount()
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        return numbers, ranks

    @cached_property
    def long(self) -> bool:
        """Whether all have one length, and a long one."""
        return int(self.lengths[0]) >= LONG and bool((self.lengths == self.lengths[0]).all())

    def awake(self, stage: int) -> int:
        """How many branches have been woken up to a stage, with it."""
        return int((self.stages <= stage).sum())

    def tokens_of(self, n_branches: int) -> int:
        """How many tokens the first branches have."""
        return int(self.offsets[n_branches]) if n_branches < len(self) else len(self.branch_of)


@dataclass(frozen=True, eq=False)
class Piece:
    """Some branches, their edits, and their numbers among all of them."""

    numbers: Int[Tensor, " branch"]
    branches: Branches
    edits: tuple[Edit, ...]


def stages_and_starts(
    edits: Sequence[Edit], reads: Int[Tensor, " branch"], n_layers: int
) -> tuple[Int[Tensor, " branch"], Int[Tensor, " branch"]]:
    """When and where the first edit of each branch comes; those without one wake last, at the read position."""
    stages, starts = torch.full_like(reads, 2 * n_layers - 1), reads.clone()
    for edit in edits:
        assert edit.site.layer is not None
        stage = torch.full_like(edit.branches, 2 * edit.site.layer + (edit.site.name not in BEFORE_ATTENTION))
        stages.scatter_reduce_(0, edit.branches, stage, reduce="amin")
        starts.scatter_reduce_(0, edit.branches, edit.positions, reduce="amin")
    return stages, starts


def pieces_of(
    prompts: Int[Tensor, " branch"],
    reads: Int[Tensor, " branch"],
    edits: Sequence[Edit],
    n_layers: int,
    most_tokens: int,
    tokens_of_keys: int,
) -> Iterator[Piece]:
    """Branches of about the same length together, of all prompts, so many tokens at once at the most.

    Long ones are made equally long, as far as their prompts are: they begin earlier, with tokens that no edit changes.

    Attention compares every token with all keys, so of longer sequences fewer tokens come together: at most
    `tokens_of_keys` such pairs.
    """
    stages, starts = stages_and_starts(edits, reads, n_layers)
    lengths = reads - starts + 1
    long, last, of = lengths.tolist(), reads.tolist(), prompts.tolist()
    order = sorted(range(len(prompts)), key=lambda i: (-long[i], of[i]))
    at, enough = 0, most_tokens // SHARE_OF_ONE_LENGTH
    while at < len(order):
        longest = long[order[at]]
        keys = last[order[at]] + 1 + longest
        room, end, taken = min(most_tokens, tokens_of_keys // keys), at, 0
        while end < len(order) and (end == at or taken + longest <= room):
            length = long[order[end]]
            if length < CLOSE * longest if longest >= LONG else length < longest and taken > enough:
                break  # of one length, no branch has tokens or keys that are not its own
            taken += longest
            end += 1
        chosen = torch.tensor(order[at:end])
        chosen = chosen[stages[chosen].argsort(stable=True)]
        number = torch.full_like(prompts, -1)
        number[chosen] = torch.arange(len(chosen))
        as_long = (reads[chosen] + 1).clamp_max(longest) if longest >= LONG else lengths[chosen]
        branches = Branches(prompts[chosen], reads[chosen] - as_long + 1, as_long, stages[chosen])
        yield Piece(chosen, branches, tuple(edit.of_branches(number) for edit in edits))
        at = end
