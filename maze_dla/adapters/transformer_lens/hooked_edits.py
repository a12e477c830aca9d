"""Edits of a model of TransformerLens: what its hooks put in place, in branches that are run together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from maze_dla.engine.edits import Edit
from maze_dla.engine.forward.running import batch_limits
from maze_dla.engine.model import MicroBatch, ModelWeights
from maze_dla.engine.sites import LOSSES, Activations, Site
from maze_dla.errors import InputError

SiteHook = tuple[Site, Callable[..., Any]]  # the site whose hook it is
RunWithEdits = Callable[[MicroBatch, Sequence[Site], Sequence[Edit]], Activations]
WIDTHS = 8  # sequences are as wide as a multiple of it: a CPU library that caches a plan per shape then stays small


@dataclass(frozen=True, eq=False, repr=False)
class EditHooks:
    """The hooks of some edits in one forward pass. Two kinds of edits are made where every version goes on with them.

    - `resid_mid`: many models show it on the way to the MLP alone, so attention is made to write what is missing.
    - `pattern`: some models show it once it has been used, so `z` becomes the values that it attends to.
    """

    edits: Sequence[Edit]

    def before_recording(self) -> list[SiteHook]:
        """Those that put what is recorded, in the order in which they have to run."""
        early = [edit for edit in self.edits if edit.site.name not in ("resid_mid", "pattern", "z")]
        moving = [hook for edit in self._of("pattern") for hook in _pattern_hooks(edit)]
        return [*map(_plain_hook, early), *moving, *map(_plain_hook, self._of("z"))]

    def after_recording(self) -> list[SiteHook]:
        """Those that change what attention writes, once it has been recorded as it was."""
        return [hook for edit in self._of("resid_mid") for hook in _mid_hooks(edit)]

    def _of(self, name: str) -> list[Edit]:
        return [edit for edit in self.edits if edit.site.name == name]


def _plain_hook(edit: Edit) -> SiteHook:
    def put(activation: Tensor, hook: Any) -> Tensor:
        return with_entries(activation, edit)

    return edit.site, put


def _mid_hooks(edit: Edit) -> list[SiteHook]:
    """The stream before attention is subtracted from the values to be there after it."""
    before: list[Tensor] = []

    def keep(residual: Tensor, hook: Any) -> None:
        before[:] = [residual[edit.branches.to(residual.device), edit.positions.to(residual.device)]]

    def put(attn_out: Tensor, hook: Any) -> Tensor:
        missing = edit.values.to(before[0]) - before.pop()
        return with_entries(attn_out, replace(edit, site=replace(edit.site, name="attn_out"), values=missing))

    return [(replace(edit.site, name="resid_pre"), keep), (replace(edit.site, name="attn_out"), put)]


def _pattern_hooks(edit: Edit) -> list[SiteHook]:
    """Values are kept, and `z` is what attention moves of them."""
    kept: list[Tensor] = []

    def keep(values: Tensor, hook: Any) -> None:
        kept[:] = [values]

    def move(z: Tensor, hook: Any) -> Tensor:
        values = values_of_heads(kept.pop(), z.shape[2])[edit.branches.to(z.device)]
        paid = _attention_paid(edit, values.shape[1]).to(values)
        if edit.site.head is None:
            moved = torch.einsum("eht,ethd->ehd", paid, values)
        else:
            moved = torch.einsum("et,etd->ed", paid, values[:, :, edit.site.head])
        return with_entries(z, replace(edit, site=replace(edit.site, name="z"), values=moved))

    return [(replace(edit.site, name="v"), keep), (replace(edit.site, name="z"), move)]


def values_of_heads(
    values: Float[Tensor, "sequence position kv_head d_head"], n_heads: int
) -> Float[Tensor, "sequence position head d_head"]:
    """The values that each head moves: heads side by side share one key-value head's."""
    return values.repeat_interleave(n_heads // values.shape[2], dim=2) if values.shape[2] < n_heads else values


def _attention_paid(edit: Edit, width: int) -> Float[Tensor, "entry ... key"]:
    """The patterns of an edit for so many keys: those after its last, or after the query itself, get nothing."""
    missing = width - edit.values.shape[-1]
    paid = pad(edit.values, (0, missing)) if missing > 0 else edit.values[..., :width]
    later = torch.arange(width, device=paid.device) > edit.positions.to(paid.device)[:, None]
    return paid.masked_fill(later if paid.ndim == 2 else later[:, None], 0.0)


def pattern_as_edited(
    pattern: Float[Tensor, "branch head key"], edit: Edit, reads: Int[Tensor, " branch"]
) -> Float[Tensor, "branch head key"]:
    """The patterns at read positions with those of an edit, which the model itself need not have gone on with."""
    branches, positions = edit.branches.to(pattern.device), edit.positions.to(pattern.device)
    read = torch.nonzero(positions == reads.to(pattern.device)[branches]).flatten()
    paid = _attention_paid(edit, pattern.shape[-1]).to(pattern.device)[read]
    queries = pattern[:, :, None]
    return with_entries(queries, Edit(edit.site, branches[read], torch.zeros_like(read), paid))[:, :, 0]


def with_entries(activation: Tensor, edit: Edit) -> Tensor:
    """A copy of an activation with the values of an edit, in the activation's dtype.

    Raises:
        InputError: values of another shape than the activation has there.
    """
    changed, head = activation.clone(), edit.site.head
    by_query = changed.transpose(1, 2) if edit.site.name == "pattern" else changed
    rows, positions = edit.branches.to(activation.device), edit.positions.to(activation.device)
    place = (rows, positions) if head is None else (rows, positions, torch.full_like(rows, head))
    there = by_query[place]
    if there.shape != edit.values.shape:
        seen, expected = list(edit.values.shape), list(there.shape)
        raise InputError(f"an edit of {edit.site} has values of shape {seen}, expected {expected}")
    by_query[place] = edit.values.to(there)
    return changed


class Checks(Protocol):
    """Refuses sites that cannot be edited."""

    def check(self, asked: Collection[Site], tokens: Int[Tensor, "sequence position"]) -> None:
        """Raise a `ModelError` for the first of them."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class HookedRerun:
    """Copies of a micro-batch's prompts, run with edits by hooks of the model: a `Rerun`.

    Pieces of as many branches as the device takes are run one by one, the
    longest first, each as far as its last read position.
    """

    run: RunWithEdits
    weights: ModelWeights
    micro: MicroBatch
    editability: Checks

    def __call__(self, prompts: Int[Tensor, " branch"], edits: Sequence[Edit], sites: Sequence[Site]) -> Activations:
        """The activations of the sites at the read position of every branch, [branch, ...].

        Raises:
            InputError: sites at other positions, entries of branches or positions that are not there, or values of
                another shape than the site has.
            ModelError: a site that the model does not have, or that cannot be edited.
        """
        self.editability.check([edit.site for edit in edits], self.micro.tokens)
        prompts = prompts.to(self.micro.rows.device)
        _refuse_other_positions(sites)
        for edit in edits:
            _refuse_entries_elsewhere(edit, len(prompts), self.micro.tokens.shape[1])
        joined: dict[Site, Tensor] = {}
        for chosen in self._pieces(self.micro.positions[prompts]):
            found = self._run_piece(prompts[chosen], [_of_piece(edit, chosen, len(prompts)) for edit in edits], sites)
            for site, activation in found.items():
                if site not in joined:
                    joined[site] = activation.new_zeros(len(prompts), *self._shape(site, activation))
                _put_rows(joined[site], chosen.to(activation.device), activation)
        return joined

    def _shape(self, site: Site, activation: Tensor) -> list[int]:
        """The shape of one branch's activation; patterns and losses have the positions of the whole micro-batch."""
        shape = list(activation.shape[1:])
        return [*shape[:-1], self.micro.tokens.shape[1]] if site.name in ("pattern", "losses") else shape

    def _pieces(self, positions: Int[Tensor, " branch"]) -> Iterator[Int[Tensor, " some"]]:
        """Branches that are run together: those of similar length."""
        order, at_once = positions.argsort(descending=True, stable=True), batch_limits(self.weights, None).tokens
        while len(order):
            n = max(at_once // self._width(int(positions[order[0]])), 1)
            yield order[:n]
            order = order[n:]

    def _width(self, last: int) -> int:
        return min(-(-(last + 1) // WIDTHS) * WIDTHS, self.micro.tokens.shape[1])

    def _run_piece(self, prompts: Tensor, edits: Sequence[Edit], sites: Sequence[Site]) -> Activations:
        positions = self.micro.positions[prompts]
        width = self._width(int(positions.max()))
        tokens = self.micro.tokens[self.micro.rows[prompts], :width]
        piece = MicroBatch(tokens, self.micro.prompts[prompts], torch.arange(len(prompts)), positions)
        seen = [_up_to(edit, width) for edit in edits]
        return self.run(piece, sites, [edit for edit in seen if len(edit.branches)])


def _put_rows(whole: Tensor, rows: Tensor, piece: Tensor) -> None:
    """Patterns and losses of a shorter piece lack the last positions."""
    there = whole if piece.shape[1:] == whole.shape[1:] else whole[..., : piece.shape[-1]]
    there.index_copy_(0, rows, piece)


def _of_piece(edit: Edit, chosen: Tensor, n_branches: int) -> Edit:
    """The entries of the branches of a piece, numbered as they lie in it."""
    number = torch.full((n_branches,), -1, device=edit.branches.device)
    number[chosen.to(number.device)] = torch.arange(len(chosen), device=number.device)
    return edit.of_branches(number)


def _up_to(edit: Edit, width: int) -> Edit:
    """The entries at the positions that are run; nothing reads what comes later."""
    if not len(edit.positions) or int(edit.positions.max()) < width:
        return edit
    kept = torch.nonzero(edit.positions < width).flatten()
    return Edit(edit.site, edit.branches[kept], edit.positions[kept], edit.values[kept.to(edit.values.device)])


def _refuse_other_positions(sites: Sequence[Site]) -> None:
    if others := [site for site in sites if site.position != "read" and site != LOSSES]:
        raise InputError(f"branches are read at their read positions alone, asked for all positions of {others[0]}")


def _refuse_entries_elsewhere(edit: Edit, n_branches: int, n_positions: int) -> None:
    """Refuse entries of branches or positions that are not there."""
    for what, given, n in (("branch", edit.branches, n_branches), ("position", edit.positions, n_positions)):
        if len(given) and not 0 <= int(given.min()) <= int(given.max()) < n:
            low, high = int(given.min()), int(given.max())
            raise InputError(f"an edit of {edit.site} is at {what} {low} to {high}, expected 0 to {n - 1}")
