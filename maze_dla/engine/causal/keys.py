"""Attention of branches: keys in front of a branch are those of the plain run, the others its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from maze_dla.engine.causal.branches import Branches
from maze_dla.engine.devices import to_device
from maze_dla.engine.edits import Edit

PatternEdit = tuple[Edit, Int[Tensor, " _"], Int[Tensor, " _"]]  # with places among what is asked, and entries


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

    def by_head(
        self, values: Float[Tensor, "token head d_head"], places: Int[Tensor, " token"], n: int
    ) -> Float[Tensor, "prompt head branch n d_head"]:
        """Values at their places, `n` for each branch; where no token is, those of the first one."""
        n_prompts, most, _ = self.size
        n_heads = values.shape[1]
        token_at = places.new_zeros(n_prompts * most * n)
        token_at[places] = torch.arange(len(places), device=places.device)
        heads = torch.arange(n_heads, device=places.device)
        rows = token_at.view(n_prompts, 1, most * n) * n_heads + heads[:, None]
        moved = values.reshape(-1, values.shape[2]).index_select(0, rows.flatten())
        return moved.view(n_prompts, n_heads, most, n, -1)

    def by_token(
        self, values: Float[Tensor, "prompt head branch n d_head"], places: Int[Tensor, " token"]
    ) -> Float[Tensor, "token head d_head"]:
        """The values of tokens at their places."""
        _, n_heads, most, n, d_head = values.shape
        heads = torch.arange(n_heads, device=places.device)
        rows = (places // (most * n) * n_heads)[:, None] + heads
        rows = rows * (most * n) + (places % (most * n))[:, None]
        return values.reshape(-1, d_head).index_select(0, rows.flatten()).view(-1, n_heads, d_head)


@dataclass(frozen=True, eq=False)
class CopiedKeys:
    """Attention of long branches, which all have one length: each gets a copy of the keys in front of it."""

    branches: Branches
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def n_before(self) -> int:
        """How many keys of the plain run some branch looks at."""
        return int(self.branches.starts.max())

    @cached_property
    def prompts(self) -> Int[Tensor, " branch"]:
        """The number of each branch's prompt among the distinct ones."""
        return to_device(self.branches.ranks[0], self.device)

    @cached_property
    def mask(self) -> Float[Tensor, "... query key"]:
        """Zero, or minus infinity for keys after the query or not before the branch; it is added to scores."""
        starts, length, before = self.branches.starts, int(self.branches.lengths[0]), self.n_before
        several = 1 if bool((starts == before).all()) else len(starts)
        mask = torch.zeros(several, 1, length, before + length, dtype=self.dtype)
        mask[..., before:].masked_fill_(torch.ones(length, length, dtype=torch.bool).triu_(1), -torch.inf)
        mask[..., :before].masked_fill_(torch.arange(before) >= starts[:several, None, None, None], -torch.inf)
        return to_device(mask, self.device)

    def attend(
        self,
        q: Float[Tensor, "asked head d_head"],
        k: Float[Tensor, "token head d_head"],
        v: Float[Tensor, "token head d_head"],
        keys: Float[Tensor, "prompt head position d_head"],
        values: Float[Tensor, "prompt head position d_head"],
    ) -> Float[Tensor, "asked head d_head"]:
        """As `attend`, for the first branches: as many as there are tokens of."""
        n = len(k) // int(self.branches.lengths[0])
        queries = q.unflatten(0, (n, -1)).transpose(1, 2)
        mask = self.mask[:n, :, -queries.shape[2] :]
        z = scaled_dot_product_attention(queries, self._whole(k, keys, n), self._whole(v, values, n), mask, scale=1.0)
        return z.transpose(1, 2).flatten(0, 1)

    def _whole(self, own: Tensor, plain: Tensor, n: int) -> Float[Tensor, "branch head key d_head"]:
        """Keys or values of the plain run and then those of each branch."""
        own = own.unflatten(0, (n, -1)).transpose(1, 2)
        whole = own.new_empty(*own.shape[:2], self.n_before + own.shape[2], own.shape[3])
        torch.index_select(plain[:, :, : self.n_before], 0, self.prompts[:n], out=whole[:, :, : self.n_before])
        whole[:, :, self.n_before :] = own
        return whole


def attend(
    layout: Layout,
    q: Float[Tensor, "asked head d_head"],
    k: Float[Tensor, "token head d_head"],
    v: Float[Tensor, "token head d_head"],
    keys: Float[Tensor, "prompt head position d_head"],
    values: Float[Tensor, "prompt head position d_head"],
    edits: Sequence[PatternEdit],
) -> Float[Tensor, "asked head d_head"]:
    """The output of heads at the tokens that are asked; queries come divided by the scale of attention.

    All branches of a prompt meet its keys in one product.
    """
    before, longest = layout.n_before, layout.size[2]
    queries = layout.by_head(q, layout.asked_places, layout.n_asked)
    own_keys, own_values = (layout.by_head(x, layout.places, longest) for x in (k, v))
    scores = q.new_empty(*queries.shape[:4], before + longest)
    own = (queries.flatten(0, 2) @ own_keys.flatten(0, 2).mT).view(*queries.shape[:4], longest)
    if layout.not_own is not None:
        own.masked_fill_(layout.not_own, -torch.inf)
    scores[..., before:] = own
    of_plain = scores.flatten(2, 3).flatten(0, 1)[..., :before]
    of_plain.baddbmm_(queries.flatten(2, 3).flatten(0, 1), keys[:, :, :before].flatten(0, 1).mT, beta=0)
    if layout.not_before is not None:
        scores[..., :before].masked_fill_(layout.not_before, -torch.inf)
    pattern = scores.softmax(-1)
    if edits:
        _put_patterns(layout, pattern, edits)
    z = pattern.flatten(0, 2)[..., before:] @ own_values.flatten(0, 2)
    of_plain = pattern.flatten(2, 3).flatten(0, 1)[..., :before]
    z = z.view(len(of_plain), -1, z.shape[-1]).baddbmm_(of_plain, values[:, :, :before].flatten(0, 1))
    return layout.by_token(z.view_as(queries), layout.asked_places)


def _put_patterns(
    layout: Layout, pattern: Float[Tensor, "prompt head branch query key"], edits: Sequence[PatternEdit]
) -> None:
    """Put edited patterns in place: keys of the plain run first, then those of the branch."""
    most, n_asked = pattern.shape[2:4]
    by_place = pattern.permute(0, 2, 3, 1, 4)  # [prompt, branch, query, head, key]
    for edit, places, entries in edits:
        given = _up_to_query(edit, entries).to(pattern)
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


def _up_to_query(edit: Edit, entries: Int[Tensor, " entry"]) -> Float[Tensor, "entry ... position"]:
    """The patterns of entries; keys behind the query itself get nothing."""
    given = edit.values[to_device(entries, edit.values.device)]
    later = torch.arange(given.shape[-1]) > edit.positions[entries][:, None]
    later = later if given.ndim == 2 else later[:, None]
    return given.masked_fill(to_device(later, given.device), 0.0)
