"""The forward pass of a plain pre-norm decoder, on one page: learned positions, attention, MLP, nothing else.

It computes what reads need and no more: a prefix that prompts share once, the last block at the read positions
alone, logits there, and no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

from maze_dla.engine.model import BlockWeights, ModelShape, Norm, Reads, Wanted
from maze_dla.engine.sharing import Slots, TokensOnce, slots_of, tokens_once


@dataclass(frozen=True)
class DecoderBlock:
    """What one block reads with, heads side by side; what it writes with is in `writes`. Biases may be missing."""

    ln1: Norm
    W_Q: Float[Tensor, "d_model heads"]
    W_K: Float[Tensor, "d_model heads"]
    W_V: Float[Tensor, "d_model heads"]
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
    W_E: Float[Tensor, "vocab d_model"]
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
        embed, pos_embed = embedding(once.ids, self.W_E), embedding(once.positions, self.W_pos)
        x = embed + pos_embed
        kept = _Kept()
        if wanted.components:
            kept.embeddings |= {"embed": _rows(embed, once.reads), "pos_embed": _rows(pos_embed, once.reads)}
        at: Tensor | None = once.reads
        for i, layer in enumerate(self.layers):
            if i < len(self.layers) - 1:
                z = self._attention(layer, x, once, slots, wanted, kept)
            else:
                z = self._attention_at_reads(layer, x, once, slots, wanted, kept)
                x, at = _rows(x, at), None
            if wanted.depths:
                kept.depths[f"{i}_pre"] = _rows(x, at)
            x = self._write(i, layer, x, z, at, wanted, kept)
        final = _rows(x, at)
        kept.depths["final_post"] = final
        scale = self.final_norm.scale(final)
        logits = _affine(self.final_norm.apply(final, scale), self.W_U, self.b_U)
        return Reads(logits, scale, **vars(kept))

    def _attention(
        self, layer: DecoderBlock, x: Tensor, once: TokensOnce, slots: Slots, wanted: Wanted, kept: _Kept
    ) -> Float[Tensor, "token heads"]:
        """What heads bring to every token, in front of W_O."""
        normed = layer.ln1(x)
        weights = ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
        q, k, v = (self._by_head(once.spread(_affine(normed, W, b))).transpose(1, 2) for W, b in weights)
        if wanted.sources:
            asked = slots.fill(self._queries(layer, _rows(normed, once.reads)))
            pattern = self._pattern(torch.einsum("srhe,shte->srht", asked, k), slots)
            kept.patterns.append(slots.take(pattern))
            kept.values.append(v.transpose(1, 2))
        z = scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / self.attn_scale)
        return once.gather(z.transpose(1, 2).flatten(2))

    def _attention_at_reads(
        self, layer: DecoderBlock, x: Tensor, once: TokensOnce, slots: Slots, wanted: Wanted, kept: _Kept
    ) -> Float[Tensor, "prompt heads"]:
        """The same for the read positions alone, without a key or a value: W_K goes to the queries, W_V to the mean.

        b_K adds the same to the scores of all positions, which a softmax does not see.
        """
        normed = layer.ln1(x)
        W_K, W_V = self._by_head(layer.W_K), self._by_head(layer.W_V)
        asked = slots.fill(torch.einsum("phe,dhe->phd", self._queries(layer, _rows(normed, once.reads)), W_K))
        places = once.spread(normed)
        pattern = self._pattern(torch.einsum("srhd,std->srht", asked, places), slots)
        seen = slots.take(torch.einsum("srht,std->srhd", pattern, places))
        z = torch.einsum("phd,dhe->phe", seen, W_V).flatten(1)
        if wanted.sources:
            kept.patterns.append(slots.take(pattern))
            kept.values.append(self._by_head(once.spread(_affine(normed, layer.W_V, layer.b_V))))
        return z if layer.b_V is None else z + layer.b_V

    def _pattern(
        self, scores: Float[Tensor, "sequence slot head position"], slots: Slots
    ) -> Float[Tensor, "sequence slot head position"]:
        """Attention of each prompt to the positions up to its own."""
        behind = torch.arange(scores.shape[-1], device=scores.device) > slots.positions[..., None]
        return (scores / self.attn_scale).masked_fill_(behind[:, :, None], -torch.inf).softmax(-1)

    def _write(
        self, i: int, layer: DecoderBlock, x: Tensor, z: Tensor, at: Tensor | None, wanted: Wanted, kept: _Kept
    ) -> Tensor:
        """The residual stream behind the block, whose attention has brought `z`."""
        attn_out = _affine(z, layer.writes.W_O.flatten(0, 1), layer.writes.b_O)
        x = x + attn_out
        if wanted.components:
            kept.z.append(self._by_head(_rows(z, at)))
            kept.attn_out.append(_rows(attn_out, at))
        if layer.W_in is None or layer.ln2 is None or layer.writes.W_out is None:
            return x
        if wanted.depths:
            kept.depths[f"{i}_mid"] = _rows(x, at)
        neurons = self.act(_affine(layer.ln2(x), layer.W_in, layer.b_in))
        mlp_out = _affine(neurons, layer.writes.W_out, layer.writes.b_out)
        if wanted.neurons:
            kept.neurons.append(_rows(neurons, at))
        if wanted.components:
            kept.mlp_out.append(_rows(mlp_out, at))
        return x + mlp_out

    def _queries(self, layer: DecoderBlock, normed: Float[Tensor, "n d_model"]) -> Float[Tensor, "n head d_head"]:
        return self._by_head(_affine(normed, layer.W_Q, layer.b_Q))

    def _by_head(self, values: Float[Tensor, "*rest heads"]) -> Float[Tensor, "*rest head d_head"]:
        return values.unflatten(-1, (self.shape.n_heads, -1))


@dataclass
class _Kept:
    """What a pass has kept so far, as in `Reads`."""

    embeddings: dict[str, Tensor] = field(default_factory=dict)
    attn_out: list[Tensor] = field(default_factory=list)
    mlp_out: list[Tensor] = field(default_factory=list)
    z: list[Tensor] = field(default_factory=list)
    neurons: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    patterns: list[Tensor] = field(default_factory=list)
    depths: dict[str, Tensor] = field(default_factory=dict)


def _affine(x: Float[Tensor, "n d"], W: Float[Tensor, "d e"], b: Float[Tensor, "e"] | None) -> Float[Tensor, "n e"]:
    return x @ W if b is None else torch.addmm(b, x, W)


def _rows(x: Float[Tensor, "token d"], at: Int[Tensor, "n"] | None) -> Float[Tensor, "n d"]:
    """Some rows, or all; `x[at]` would take several times as long on a CPU."""
    return x if at is None else x.index_select(0, at)
