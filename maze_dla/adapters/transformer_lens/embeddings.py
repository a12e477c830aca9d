"""Components before the first block: what embeddings write, and whatever else is in the stream there."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.engine.sites import ADDED

ROUNDINGS = 8  # of the largest number in a sum, which a rest may be made of


def adds_positions(cfg: Any) -> bool:
    """Whether position embeddings are added to the stream; shortformer and rotary models use positions elsewhere."""
    return getattr(cfg, "positional_embedding_type", "standard") == "standard"


def written_before_the_blocks(
    shown: dict[str, Float[Tensor, "prompt d_model"]], start: Float[Tensor, "prompt d_model"]
) -> dict[str, Float[Tensor, "prompt d_model"]]:
    """Named vectors that sum to the start of the residual stream for every prompt.

    The token embedding is rescaled for the prompts where what the other embeddings leave of the start is proportional
    to it: some models show it before they multiply it by a factor or divide it by its own size. Anything else in the
    stream is a component of its own, `added`, which is missing where it would be rounding for all prompts.
    """
    found = dict(shown)
    if "embed" in found:
        others = torch.stack([v for name, v in found.items() if name != "embed"] or [torch.zeros_like(start)]).sum(0)
        found["embed"] = _scaled_to(found["embed"], start - others, _rounding(start, *shown.values()))
    rest = start - sum(found.values(), torch.zeros_like(start))
    if bool((rest.abs().amax(-1) > _rounding(start, *found.values())).any()):
        found[ADDED.name] = rest  # positions without a hook of their own, a steering vector, ...
    return found


def _scaled_to(
    embed: Float[Tensor, "prompt d_model"], left: Float[Tensor, "prompt d_model"], rounding: Float[Tensor, " prompt"]
) -> Float[Tensor, "prompt d_model"]:
    """The embedding times the factor that makes it what is left, for the prompts that have such a factor."""
    fine_embed, fine_left = embed.double(), left.double()
    factor = (fine_embed * fine_left).sum(-1) / fine_embed.square().sum(-1).clamp_min(1e-300)
    scaled = fine_embed * factor[:, None]
    apart = (fine_left - scaled).abs().amax(-1)
    already = (fine_left - fine_embed).abs().amax(-1) <= rounding
    return torch.where(((apart > rounding) | already)[:, None], embed, scaled.to(left.dtype))


def _rounding(*vectors: Float[Tensor, "prompt d_model"]) -> Float[Tensor, " prompt"]:
    """For every prompt, a size that sums of these vectors can be wrong by."""
    coarsest = max(torch.finfo(v.dtype).eps for v in vectors)
    return ROUNDINGS * coarsest * torch.stack([v.double().abs().amax(-1) for v in vectors]).amax(0)
