"""Attention of branches: keys in front of a branch are those of the plain run, the others its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.engine.causal.branches import Branches
from maze_dla.engine.devices import to_device
from maze_dla.engine.edits import Edit

PatternEdit = tuple[Edit, Int[Tensor, " entry"], Int[Tensor, " entry"]]  # with places among what is asked, and entries


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of branches lie in arrays [prompt, branch, token], for the first branches, which are awake.

    `asked` are the tokens whose queries are wanted: all of them, or the last one of each branch.
    """

    branches: Branches
    n_branches: int
    asked: Int[Tensor, " asked"]
    device: torch.device

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """Prompts, the most branches that one of them has, and the most tokens of a branch."""
        b, n = self.branches, self.n_branches
        return len(b.distinct_prompts), int(b.ranks[1][:n].max()) + 1, int(b.lengths[:n].max())

    @cached_property
    def n_asked(self) -> int:
        """The most queries of a branch."""
        return self.size[2] if len(self.asked) > self.n_branches else 1

    @cached_property
    def rows(self) -> Int[Tensor, " branch"]:
        """The place of each branch among [prompt, branch]."""
        numbers, ranks = (x[: self.n_branches] for x in self.branches.ranks)
        return numbers * self.size[1] + ranks

    @cached_property
    def places(self) -> Int[Tensor, " token"]:
        """The place of each token, all of the first branches'."""
        b = self.branches
        tokens = torch.arange(b.tokens_of(self.n_branches))
        of = b.branch_of[tokens]
        return to_device(self.rows[of] * self.size[2] + tokens - b.offsets[of], self.device)

    @cached_property
    def asked_places(self) -> Int[Tensor, " asked"]:
        """The place of each token that is asked."""
        return self.places if self.n_asked > 1 else to_device(self.rows, self.device)

    @cached_property
    def starts(self) -> Int[Tensor, "prompt branch"]:
        """Where each branch begins; of places without a branch, the last start."""
        starts = self.branches.starts[: self.n_branches]
        n_prompts, most, _ = self.size
        return starts.new_full((n_prompts * most,), int(starts.max())).index_copy_(0, self.rows, starts).view(-1, most)

    @cached_property
    def n_before(self) -> int:
        """How many keys of the plain run some branch looks at."""
        return int(self.starts.max())

    @cached_property
    def not_before(self) -> Bool[Tensor, "prompt 1 branch 1 key"] | None:
        """Keys of the plain run that are not in front of a branch; None where all are."""
        if bool((self.starts == self.n_before).all()):
            return None
        mask = torch.arange(self.n_before) >= self.starts[:, None, :, None, None]
        return to_device(mask, self.device)

    @cached_property
    def not_own(self) -> Bool[Tensor, "... query key"] | None:
        """Keys of a branch that are behind a query; None where none are."""
        n_prompts, most, longest = self.size
        if self.n_asked > 1:
            return torch.ones(longest, longest, dtype=torch.bool, device=self.device).triu_(1)
        lengths = self.branches.lengths[: self.n_branches]
        if bool((lengths == longest).all()):
            return None
        whole = lengths.new_full((n_prompts * most,), longest).index_copy_(0, self.rows, lengths)
        mask = torch.arange(longest) >= whole.view(n_prompts, 1, most, 1, 1)
        return to_device(mask, self.device)

    def spread(
        self, values: Float[Tensor, "token head d_head"], places: Int[Tensor, " token"], n: int
    ) -> Float[Tensor, "prompt branch n head d_head"]:
        """Values at their places, `n` for each branch, zero elsewhere."""
        n_prompts, most, _ = self.size
        flat = values.new_zeros(n_prompts * most * n, *values.shape[1:])
        return flat.index_copy_(0, places, values).view(n_prompts, most, n, *values.shape[1:])


def attend(
    layout: Layout,
    q: Float[Tensor, "asked head d_head"],
    k: Float[Tensor, "token head d_head"],
    v: Float[Tensor, "token head d_head"],
    keys: Float[Tensor, "prompt position head d_head"],
    values: Float[Tensor, "prompt position head d_head"],
    edits: Sequence[PatternEdit],
) -> Float[Tensor, "asked head d_head"]:
    """What heads take at the tokens that are asked; queries come divided by the scale of attention."""
    before = layout.n_before
    queries = layout.spread(q, layout.asked_places, layout.n_asked).permute(0, 3, 1, 2, 4)
    own_keys, own_values = (layout.spread(x, layout.places, layout.size[2]).permute(0, 3, 1, 2, 4) for x in (k, v))
    # [prompt, head, branch, query, key]
    own = queries @ own_keys.transpose(-1, -2)
    if layout.not_own is not None:
        own = own.masked_fill_(layout.not_own, -torch.inf)
    flat = queries.flatten(2, 3)
    plain = (flat @ keys[:, :before].permute(0, 2, 3, 1)).unflatten(2, queries.shape[2:4])
    if layout.not_before is not None:
        plain = plain.masked_fill_(layout.not_before, -torch.inf)
    pattern = torch.cat([plain, own], -1).softmax(-1)
    if edits:
        _put_patterns(layout, pattern, edits)
    z = pattern[..., before:] @ own_values
    z += (pattern[..., :before].flatten(2, 3) @ values[:, :before].transpose(1, 2)).view_as(z)
    return z.permute(0, 2, 3, 1, 4).reshape(-1, *q.shape[1:]).index_select(0, layout.asked_places)


def _put_patterns(
    layout: Layout, pattern: Float[Tensor, "prompt head branch query key"], edits: Sequence[PatternEdit]
) -> None:
    """Put edited patterns in place: keys of the plain run first, then those of the branch."""
    n_prompts, n_heads, most, n_asked, _ = pattern.shape
    by_place = pattern.permute(0, 2, 3, 1, 4)  # [prompt, branch, query, head, key]
    for edit, places, entries in edits:
        given = edit.values[to_device(entries, pattern.device)].to(pattern)
        starts = to_device(layout.branches.starts[edit.branches[entries]], pattern.device)
        rows = layout.asked_places[to_device(places, pattern.device)]
        at = (rows // (most * n_asked), rows // n_asked % most, rows % n_asked)
        if edit.site.head is None:
            by_place[at] = _in_two(given, starts[:, None], layout)
        else:
            by_place[(*at, edit.site.head)] = _in_two(given, starts, layout)


def _in_two(
    given: Float[Tensor, "entry ... position"], starts: Int[Tensor, "entry ..."], layout: Layout
) -> Float[Tensor, "entry ... key"]:
    """Patterns over positions as those over the plain run's keys and then over the branch's own."""
    longest, before = layout.size[2], layout.n_before
    given = torch.nn.functional.pad(given, (0, max(before + longest - given.shape[-1], 0)))
    positions = torch.arange(before, device=given.device)
    plain = given[..., :before] * (positions < starts[..., None])
    own = starts[..., None] + torch.arange(longest, device=given.device)
    return torch.cat([plain, given.gather(-1, own.expand(*given.shape[:-1], longest))], -1)
