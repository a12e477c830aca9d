"""Attention to sources put out: what heads then look at."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.causal.parts import Part
from maze_dla.engine.devices import to_device
from maze_dla.engine.model import MicroBatch
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.sites import Activations, Site

KNOCKOUTS = ("zero", "renormalize")


def knocked_out(
    part: Part,
    renormalized: bool,
    micro: MicroBatch,
    plain: Activations,
    prompts: Int[Tensor, " entry"],
    positions: Int[Tensor, " entry"],
) -> Float[Tensor, "entry position"]:
    """The pattern of a head at query positions of prompts, with nothing for its sources.

    Renormalized, what is left sums to 1 again; where a head looks at nothing else, nothing is left.
    """
    site, head = part.site, part.site.head
    assert head is not None
    held = plain.get(Site("pattern", site.layer, position="all"))
    if held is None:
        held = plain[Site("pattern", site.layer)]
        pattern = held.index_select(0, to_device(prompts, held.device)).select(1, head)
    else:
        rows, at = (to_device(x, held.device) for x in (micro.rows[prompts], positions))
        pattern = held[rows, head, at]
    pattern = at_least_single(pattern)
    keys = torch.arange(pattern.shape[-1])
    if part.kind is not None:
        assert micro.kinds is not None
        sources = micro.kinds[micro.rows[prompts], : len(keys)] == part.kind
    else:
        sources = (keys == part.position).expand(len(prompts), -1)
    left = pattern.masked_fill(to_device(sources, pattern.device), 0.0)
    if not renormalized:
        return left
    whole = left.sum(-1, keepdim=True)
    return torch.where(whole > 0, left / whole.clamp_min(torch.finfo(left.dtype).tiny), 0.0)
