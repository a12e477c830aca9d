"""Edits: other activations in place of a model's own, in copies of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.sites import Activations, Site

STREAM = ("resid_pre", "resid_mid", "attn_out", "mlp_out")  # of every token, [d_model]
OF_HEADS = ("q", "k", "v", "pattern", "z")  # pattern and z differ from head to head, the others also may be shared
EDITABLE = (*STREAM, *OF_HEADS, "neurons")
BEFORE_ATTENTION = ("resid_pre", "q", "k", "v", "pattern")  # what an edit of these changes, attention carries on


@dataclass(frozen=True, eq=False)
class Edit:
    """Values to put at a site of a layer, in branches: copies of prompts that are run with edits.

    Entry i puts `values[i]` at position `positions[i]` of branch `branches[i]`; a branch may have many entries, of one
    edit and of several. What is there of one entry, as with `Site`:

    | site | values, for each entry |
    | --- | --- |
    | `resid_pre`, `resid_mid`, `attn_out`, `mlp_out` | [d_model] |
    | `q`, `z` | [d_head], or [head, d_head] where the site names no head |
    | `k`, `v` | [d_head], or [kv_head, d_head]; before rotation |
    | `pattern` | [key position] of this query position, or [head, key position]; keys behind the last one get nothing |
    | `neurons` | a single number where `site.head` is the number of a neuron, else [d_mlp] |
    """

    site: Site
    branches: Int[Tensor, " entry"]
    positions: Int[Tensor, " entry"]
    values: Float[Tensor, "entry ..."]

    def of_branches(self, number: Int[Tensor, " branch"]) -> Edit:
        """The entries of some branches, which are renamed: `number` is -1 for the others."""
        renamed = number[self.branches]
        kept = renamed >= 0
        if bool(kept.all()):
            return replace(self, branches=renamed)
        chosen = torch.nonzero(kept).flatten()
        return Edit(self.site, renamed[chosen], self.positions[chosen], self.values[chosen])


Rerun = Callable[[Int[Tensor, " branch"], Sequence[Edit], Sequence[Site]], Activations]
"""Runs branches: of which prompt of the micro-batch each is a copy, the edits, and the sites, at the read position, to
record. All are run at once; what an edit leaves alone is what the plain run had. `losses` are recorded by themselves,
where the plain run recorded them: [branch, position], from each branch's first edit up to its read position, where
there is no next token; what stands at other positions is not to be read.
"""
