"""Which sites of a model of TransformerLens can be edited, found by what edits do to the rest of its forward pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.adapters.transformer_lens.hooked_edits import RunWithEdits
from maze_dla.engine.edits import EDITABLE, STREAM, Edit
from maze_dla.engine.model import MicroBatch, ModelWeights
from maze_dla.engine.sites import FINAL_RESIDUAL, Activations, Site
from maze_dla.errors import ModelError

N_TOKENS = 4  # of the sequences that edits are tried on
PUT_TOGETHER = {**dict.fromkeys("qkv", ("q", "k", "v")), "pattern": ("pattern", "v")}
FOLLOWS = {"q": "z", "k": "z", "v": "z", "pattern": "z", "z": "attn_out", "neurons": "mlp_out"}
SHARE, ROUNDINGS = 1e-2, 32  # of what differs between two runs, and of the largest number: what may be amiss
OTHER, PLAIN = 0, 1  # the rows of the two runs


@dataclass(frozen=True, eq=False, repr=False)
class Editability:
    """Tries edits of sites once each, and keeps which of them do as they should.

    Two sequences differ in their last token alone. Once the activations of one have been put there in the other, what
    follows has to be the same in both: the stream after the layer; `z` after queries, keys and values, or after pattern
    and values; what attention writes after `z`; what the MLP writes after neurons. A hook whose value is not what the
    model goes on with, or goes only part of the way, fails that.
    """

    run: RunWithEdits
    weights: ModelWeights
    sites: Collection[str]
    name: str
    found: dict[Site, Tensor | None] = field(default_factory=dict)  # None where a site cannot be edited

    def check(self, asked: Collection[Site], tokens: Int[Tensor, "sequence position"]) -> None:
        """Refuse sites that the model does not have, or that cannot be edited; `tokens` are some that it reads.

        Raises:
            ModelError: naming the site.
        """
        for site in asked:
            self._refuse_missing(site)
        whole = dict.fromkeys(Site(site.name, site.layer) for site in asked)
        if new := [site for site in whole if site not in self.found]:
            self._try(new, tokens[:1, :N_TOKENS])
        for site in asked:
            activation = self.found[Site(site.name, site.layer)]
            if activation is None:
                raise ModelError(f"{self.name}: {site} cannot be edited, the model goes on with other values")
            Site(site.name, site.layer, site.head).pick(activation)

    def _refuse_missing(self, site: Site) -> None:
        if site.name not in EDITABLE:
            raise ModelError(f"{site} cannot be edited, expected one of {', '.join(EDITABLE)}")
        n_layers = self.weights.shape.n_layers
        if site.name not in self.sites or site.layer is None or not 0 <= site.layer < n_layers:
            shown = ", ".join(name for name in EDITABLE if name in self.sites)
            raise ModelError(f"{self.name}: the model has no {site}; it has {shown} in layers 0 to {n_layers - 1}")

    @torch.no_grad()
    def _try(self, new: Sequence[Site], tokens: Int[Tensor, "1 position"]) -> None:
        """Run both sequences, then the plain one once for each site with an edit of it."""
        other = tokens.clone()
        other[:, -1] = (other[:, -1] + 1) % self.weights.shape.d_vocab_in
        needed = dict.fromkeys(each for site in new for each in self._needed(site))
        both = self.run(_last_of(torch.cat([other, tokens])), list(needed), [])
        followers = dict.fromkeys(map(self._follower, new))
        if strange := [site for site in needed if not bool(both[site].isfinite().all())]:
            raise ModelError(f"{self.name}: {strange[0]} has numbers that are not finite, so no edit can be tried")
        edits = [edit for i, site in enumerate(new) for edit in self._edits(i, site, both, tokens.shape[1] - 1)]
        edited = self.run(_last_of(tokens.expand(len(new), -1)), list(followers), edits)
        for i, site in enumerate(new):
            follower = self._follower(site)
            self.found[site] = both[site] if _is_other(edited[follower][i], both[follower]) else None

    def _needed(self, site: Site) -> list[Site]:
        before = [Site("resid_pre", site.layer)] if site.name == "attn_out" else []
        return [site, *self._put(site), self._follower(site), *before]

    def _put(self, site: Site) -> list[Site]:
        return [Site(name, site.layer) for name in PUT_TOGETHER.get(site.name, (site.name,))]

    def _follower(self, site: Site) -> Site:
        if site.name not in STREAM:
            return Site(FOLLOWS[site.name], site.layer)
        layer = 1 + (site.layer or 0)
        return FINAL_RESIDUAL if layer == self.weights.shape.n_layers else Site("resid_pre", layer)

    def _edits(self, branch: int, site: Site, both: Activations, last: int) -> list[Edit]:
        """The values that make the follower the other run's; of what is added to the stream, what is missing."""
        where = torch.tensor([branch]), torch.tensor([last])
        if site.name not in ("attn_out", "mlp_out"):
            return [Edit(put, *where, both[put][OTHER, None]) for put in self._put(site)]
        read_by_mlp = site.name == "attn_out" and "resid_mid" in self.sites
        stream = both[Site("resid_pre", site.layer) if read_by_mlp else self._follower(site)]
        written = both[site][OTHER if read_by_mlp else PLAIN]
        return [Edit(site, *where, (written + stream[OTHER] - stream[PLAIN])[None])]


def _last_of(tokens: Int[Tensor, "sequence position"]) -> MicroBatch:
    """Sequences that are read at their last position."""
    each = torch.arange(len(tokens))
    return MicroBatch(tokens, each, each, torch.full_like(each, tokens.shape[1] - 1))


def _is_other(seen: Tensor, both: Tensor) -> bool:
    """Whether an activation is that of the other run, up to rounding."""
    rounding = ROUNDINGS * torch.finfo(seen.dtype).eps * float(both.abs().max())
    apart = float((both[OTHER] - both[PLAIN]).abs().max())
    return float((seen - both[OTHER]).abs().max()) <= SHARE * apart + rounding
