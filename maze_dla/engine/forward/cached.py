"""The engine's own decoder, token by token: keys and values of earlier tokens are kept."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

from maze_dla.engine.devices import to_device
from maze_dla.engine.forward.continuing import pieces_of
from maze_dla.engine.forward.decoder import DecoderBlock, PreNormDecoder, affine, side_by_side
from maze_dla.engine.model import MicroBatch
from maze_dla.engine.sites import LOGITS, Site

ROOM = 32  # positions by which the arrays of keys and values grow


class CachedDecoding:
    """A `Continuation` of a `PreNormDecoder` that computes each token once.

    Keys and values lie in arrays [walk, head, position, d_head], each walk's from position 0 on. What is there after a
    walk's last token, of a longer neighbour for one, is masked until the walk's own takes its place.
    """

    def __init__(self, decoder: PreNormDecoder, micro: MicroBatch, n_tokens: int) -> None:
        self._decoder = decoder
        self._n_layers, n_heads = decoder.weights.shape.n_layers, decoder.weights.shape.n_heads
        self._lengths = micro.positions + 1
        size = (len(micro.rows), n_heads, _with_room(int(self._lengths.max())), decoder.weights.shape.d_head)
        # zeros, since what is masked must be a number
        self._keys, self._values = ([decoder.W_E.new_zeros(size) for _ in range(self._n_layers)] for _ in range(2))
        self.logits: Float[Tensor, "walk vocab"] = self._prompts(micro, n_tokens)

    def advance(self, tokens: Int[Tensor, " walk"]) -> None:
        """Give each walk one more token."""
        decoder, device = self._decoder, self._decoder.W_E.device
        positions = to_device(self._lengths, device)
        self._lengths = self._lengths + 1
        self._make_room(n := int(self._lengths.max()))
        seen = (torch.arange(n, device=device) <= positions[:, None])[:, None, None]
        x = embedding(to_device(tokens, device), decoder.W_E) + embedding(positions, decoder.W_pos)
        for i, layer in enumerate(decoder.layers):
            z = self._attention(i, layer, layer.ln1(x), positions, seen)
            x = x + affine(z, layer.writes.W_O.flatten(0, 1), layer.writes.b_O)
            x = x if (written := self._mlp(layer, x)) is None else x + written
        weights = decoder.weights
        self.logits = affine(weights.final_norm.apply(x, weights.final_norm.scale(x)), weights.W_U, weights.b_U)

    def keep(self, walks: Int[Tensor, " kept"]) -> None:
        """Go on with these walks alone, in this order; a walk that is named twice goes on twice."""
        there = to_device(walks, self.logits.device)
        self.logits = self.logits.index_select(0, there)
        self._lengths = self._lengths[walks]
        for i in range(self._n_layers):
            self._keys[i] = self._keys[i].index_select(0, there)
            self._values[i] = self._values[i].index_select(0, there)

    def _prompts(self, micro: MicroBatch, n_tokens: int) -> Float[Tensor, "walk vocab"]:
        """Run the prompts, keep their keys and values; the logits after each."""
        sites = [Site(name, i, position="all") for i in range(self._n_layers) for name in ("k", "v")]
        logits, first = [], 0
        for piece in pieces_of(micro, n_tokens):
            found = self._decoder(piece, [*sites, LOGITS])
            logits.append(found[LOGITS])
            walks, rows = slice(first, first + len(piece.rows)), to_device(piece.rows, found[LOGITS].device)
            for site in sites:
                kept = self._keys if site.name == "k" else self._values
                of_walks = found[site].index_select(0, rows).transpose(1, 2)
                kept[site.layer or 0][walks, :, : of_walks.shape[2]] = of_walks[:, :, : kept[0].shape[2]]
            first = walks.stop
        return torch.cat(logits)

    def _attention(
        self,
        i: int,
        layer: DecoderBlock,
        normed: Float[Tensor, "walk d_model"],
        positions: Int[Tensor, " walk"],
        seen: Bool[Tensor, "walk 1 1 position"],
    ) -> Float[Tensor, "walk heads"]:
        """The output of heads at the new tokens, in front of W_O."""
        weights = (layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V)
        q, k, v = (affine(normed, side_by_side(W), b).unflatten(1, (len(W), -1)) for W, b in weights)
        walks = torch.arange(len(q), device=q.device)
        self._keys[i][walks, :, positions] = k
        self._values[i][walks, :, positions] = v
        keys, values = (kept[i][:, :, : seen.shape[-1]] for kept in (self._keys, self._values))
        scale = 1 / self._decoder.attn_scale
        return scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=seen, scale=scale).flatten(1)

    def _mlp(self, layer: DecoderBlock, x: Float[Tensor, "walk d_model"]) -> Float[Tensor, "walk d_model"] | None:
        """The output of the MLP; None where there is none."""
        if layer.W_in is None or layer.ln2 is None or layer.writes.W_out is None:
            return None
        neurons = self._decoder.act(affine(layer.ln2(x), layer.W_in, layer.b_in))
        return affine(neurons, layer.writes.W_out, layer.writes.b_out)

    def _make_room(self, n: int) -> None:
        """Let the arrays hold `n` positions."""
        if n <= self._keys[0].shape[2]:
            return
        for kept in (self._keys, self._values):
            for i, old in enumerate(kept):
                kept[i] = old.new_zeros(*old.shape[:2], _with_room(n), old.shape[3])
                kept[i][:, :, : old.shape[2]] = old


def _with_room(n: int) -> int:
    return n + ROOM
