"""The forward pass of a plain pre-norm decoder, on one page: learned positions, attention, MLP, nothing else.

It computes what reads need and no more: a prefix that prompts share once, the last block at the read positions
alone, logits there, and no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

from maze_dla.engine.kept import Kept, Room
from maze_dla.engine.model import BlockWeights, ModelShape, Norm, Reads, Wanted
from maze_dla.engine.sharing import Slots, TokensOnce, slots_of, tokens_once


@dataclass(frozen=True)
class DecoderBlock:
    """What one block reads with; what it writes with is in `writes`. Biases, heads side by side, may be missing."""

    ln1: Norm
    W_Q: Float[Tensor, "head d_model d_head"]
    W_K: Float[Tensor, "head d_model d_head"]
    W_V: Float[Tensor, "head d_model d_head"]
    b_Q: Float[Tensor, "heads"] | None
    b_K: Float[Tensor, "heads"] | None
    b_V: Float[Tensor, "heads"] | None
    ln2: Norm | None
    W_in: Float[Tensor, "d_model d_mlp"] | None
    b_in: Float[Tensor, "d_mlp"] | None
    writes: BlockWeights


@dataclass(frozen=True, eq=False, repr=False)
class PlainDecoder:
    """A decoder by its weights, as a `ResidualModel`. Attention scores are divided by `attn_scale`.

    `act` may overwrite its argument.
    """

    shape: ModelShape
    precision: torch.dtype
    W_E: Float[Tensor, "vocab_in d_model"]
    W_pos: Float[Tensor, "position d_model"]
    layers: tuple[DecoderBlock, ...]
    act: Callable[[Tensor], Tensor]
    attn_scale: float
    final_norm: Norm
    W_U: Float[Tensor, "d_model vocab"]
    b_U: Float[Tensor, "vocab"] | None
    logit_cap: float | None
    info: Mapping[str, Any]

    @property
    def blocks(self) -> tuple[BlockWeights, ...]:
        """What each block writes with."""
        return tuple(layer.writes for layer in self.layers)

    def read(
        self,
        tokens: Int[Tensor, "sequence position"],
        rows: Int[Tensor, "prompt"],
        positions: Int[Tensor, "prompt"],
        wanted: Wanted,
    ) -> Reads:
        """Run the sequences once and keep what is wanted at (rows[i], positions[i]) for every prompt i."""
        device = self.W_E.device
        once = tokens_once(tokens, rows, positions, device)
        slots = slots_of(rows, positions, len(tokens), device)
        kept = Kept(self.shape, wanted, once.reads, self.W_E)
        room = Room(self.shape, len(once.ids), tokens.numel(), self.W_E)
        x = self._embedded(once, kept)
        *layers, last = enumerate(self.layers)
        for i, layer in layers:
            x = self._behind_attention(i, layer, x, self._attention(layer, x, once, slots, kept, room), kept)
            x = self._behind_mlp(i, layer, x, kept, room)
        del room  # what follows can use its memory
        i, layer = last
        z = self._attention_at_reads(layer, x, once, slots, kept)
        x = kept.only_reads_from_here(x)
        x = self._behind_attention(i, layer, x, z, kept)
        final = self._behind_mlp(i, layer, x, kept)
        scale = self.final_norm.scale(final)
        logits = _affine(self.final_norm.apply(final, scale), self.W_U, self.b_U)
        return kept.reads(logits, scale, final)

    def _embedded(self, once: TokensOnce, kept: Kept) -> Float[Tensor, "token d_model"]:
        """The residual stream in front of the first block."""
        embed, pos_embed = embedding(once.ids, self.W_E), embedding(once.positions, self.W_pos)
        kept.keep_embeddings(embed=embed, pos_embed=pos_embed)
        return embed.add_(pos_embed)

    def _attention(
        self, layer: DecoderBlock, x: Tensor, once: TokensOnce, slots: Slots, kept: Kept, room: Room
    ) -> Float[Tensor, "token heads"]:
        """What heads bring to every token, in front of W_O."""
        normed = layer.ln1(x)
        weights = (layer.W_Q, layer.W_K, layer.W_V), (layer.b_Q, layer.b_K, layer.b_V), room.for_attention()
        q, k, v = (
            self._by_head(once.spread(_affine(normed, _joined(W), b), out)).transpose(1, 2)
            for W, b, out in zip(*weights, strict=True)
        )
        if kept.wanted.sources:
            asked = slots.fill(self._queries(layer, normed.index_select(0, once.reads)))
            pattern = self._pattern(torch.einsum("srhe,shte->srht", asked, k), slots)
            kept.patterns.append(slots.take(pattern))
            kept.values.append(v.transpose(1, 2).clone())
        z = scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / self.attn_scale)
        return once.gather(z.transpose(1, 2).flatten(2))

    def _attention_at_reads(
        self, layer: DecoderBlock, x: Tensor, once: TokensOnce, slots: Slots, kept: Kept
    ) -> Float[Tensor, "prompt heads"]:
        """The same for the read positions alone, without a key or a value: W_K goes to the queries, W_V to the mean.

        b_K adds the same to the scores of all positions, which a softmax does not see.
        """
        normed = layer.ln1(x)
        queries = self._queries(layer, normed.index_select(0, once.reads))
        asked = slots.fill(torch.einsum("phe,hde->phd", queries, layer.W_K))
        places = once.spread(normed)
        pattern = self._pattern(torch.einsum("srhd,std->srht", asked, places), slots)
        seen = slots.take(torch.einsum("srht,std->srhd", pattern, places))
        z = torch.einsum("phd,hde->phe", seen, layer.W_V).flatten(1)
        if kept.wanted.sources:
            kept.patterns.append(slots.take(pattern))
            kept.values.append(self._by_head(once.spread(_affine(normed, _joined(layer.W_V), layer.b_V))))
        return z if layer.b_V is None else z + layer.b_V

    def _pattern(
        self, scores: Float[Tensor, "sequence slot head position"], slots: Slots
    ) -> Float[Tensor, "sequence slot head position"]:
        """Attention of each prompt to the positions up to its own."""
        behind = torch.arange(scores.shape[-1], device=scores.device) > slots.positions[..., None]
        return (scores / self.attn_scale).masked_fill_(behind[:, :, None], -torch.inf).softmax(-1)

    def _behind_attention(self, i: int, layer: DecoderBlock, x: Tensor, z: Tensor, kept: Kept) -> Tensor:
        """The residual stream once heads, which bring `z`, have written."""
        attn_out = _affine(z, layer.writes.W_O.flatten(0, 1), layer.writes.b_O)
        kept.keep(i, pre=x, z=z, attn_out=attn_out)
        return attn_out.add_(x)

    def _behind_mlp(self, i: int, layer: DecoderBlock, x: Tensor, kept: Kept, room: Room | None = None) -> Tensor:
        """The residual stream once neurons, where there are any, have written."""
        if layer.W_in is None or layer.ln2 is None or layer.writes.W_out is None:
            return x
        out = None if room is None else room.for_neurons(len(x))
        neurons = self.act(_affine(layer.ln2(x), layer.W_in, layer.b_in, out))
        mlp_out = _affine(neurons, layer.writes.W_out, layer.writes.b_out)
        kept.keep(i, mid=x, neurons=neurons, mlp_out=mlp_out)
        return mlp_out.add_(x)

    def _queries(self, layer: DecoderBlock, normed: Float[Tensor, "n d_model"]) -> Float[Tensor, "n head d_head"]:
        return self._by_head(_affine(normed, _joined(layer.W_Q), layer.b_Q))

    def _by_head(self, values: Float[Tensor, "*rest heads"]) -> Float[Tensor, "*rest head d_head"]:
        return values.unflatten(-1, (self.shape.n_heads, -1))


def _affine(
    x: Float[Tensor, "n d"],
    W: Float[Tensor, "d e"],
    b: Float[Tensor, "e"] | None,
    out: Float[Tensor, "n e"] | None = None,
) -> Float[Tensor, "n e"]:
    return torch.mm(x, W, out=out) if b is None else torch.addmm(b, x, W, out=out)


def _joined(W: Float[Tensor, "head d_model d_head"]) -> Float[Tensor, "d_model heads"]:
    """Heads side by side, without a copy where the model has them so; made for each use, as all would be large."""
    return W.transpose(0, 1).flatten(1)
