"""The forward pass of a plain pre-norm decoder, on one page: learned positions, attention, MLP, nothing else.

It computes what the sites need and no more: a prefix that prompts share once, the last block at the read positions
alone, logits there, and no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

from maze_dla.engine.forward.losses import next_token_losses
from maze_dla.engine.forward.prefixes import SharedPrefixes, Slots, shared_prefixes, slots_of
from maze_dla.engine.forward.recorder import ActivationRecorder
from maze_dla.engine.forward.workspace import Workspace
from maze_dla.engine.model import BlockWeights, MicroBatch, ModelWeights, Norm
from maze_dla.engine.sites import ADDED, FINAL_RESIDUAL, FINAL_SCALE, LOGITS, LOSSES, Activations, Site


@dataclass(frozen=True)
class DecoderBlock:
    """The weights that one block reads with; `writes` are the others. Biases, heads side by side, may be missing."""

    ln1: Norm
    W_Q: Float[Tensor, "head d_model d_head"]
    W_K: Float[Tensor, "head d_model d_head"]
    W_V: Float[Tensor, "head d_model d_head"]
    b_Q: Float[Tensor, " heads"] | None
    b_K: Float[Tensor, " heads"] | None
    b_V: Float[Tensor, " heads"] | None
    ln2: Norm | None
    W_in: Float[Tensor, "d_model d_mlp"] | None
    b_in: Float[Tensor, " d_mlp"] | None
    writes: BlockWeights

    def normed(self, mid: Float[Tensor, "token d_mlp"]) -> Float[Tensor, "token d_mlp"]:
        """Neurons after the norm inside the MLP; themselves where there is none."""
        return mid if self.writes.inner_norm is None else self.writes.inner_norm(mid)


@dataclass(frozen=True, eq=False, repr=False)
class PreNormDecoder:
    """A decoder by its weights, as a `ForwardPass`. Attention scores are divided by `attn_scale`.

    `act` may overwrite its argument.
    """

    weights: ModelWeights
    W_E: Float[Tensor, "vocab_in d_model"]
    W_pos: Float[Tensor, "position d_model"]
    layers: tuple[DecoderBlock, ...]
    act: Callable[[Tensor], Tensor]
    attn_scale: float

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The sites that are kept for each token, by the shape of what is there."""
        shape = self.weights.shape
        names = ("embed", "pos_embed", "resid_pre", "attn_out", *(("resid_mid", "mlp_out") if shape.d_mlp else ()))
        neurons: dict[str, tuple[int, ...]] = {"neurons": (shape.d_mlp,)} if shape.d_mlp else {}
        if any(block.inner_norm is not None for block in self.weights.blocks):
            neurons["mlp_mid"] = (shape.d_mlp or 0,)
        return {**dict.fromkeys(names, (shape.d_model,)), "z": (shape.n_heads, shape.d_head), **neurons}

    def has(self, site: Site) -> bool:
        """Whether the pass comes by an activation."""
        if site.name in ("q", "k", "v", "pattern"):
            return site.name == "pattern" or site.position == "all"
        return site.name in self.shapes or site in (FINAL_RESIDUAL, FINAL_SCALE, LOGITS, LOSSES, ADDED)

    def __call__(self, micro: MicroBatch, sites: Sequence[Site]) -> Activations:
        """Run the sequences once; the activations of the sites, at the read position of every prompt."""
        run = _Run.of(micro, sites, self)
        workspace = Workspace(self.weights.shape, len(run.prefixes.ids), micro.tokens.numel(), self.W_E)
        x = self._embedded(run)
        last = self.weights.shape.n_layers - 1
        n_whole = last + 1 if run.recorder.needs_all_tokens(last) else last
        for i, layer in enumerate(self.layers[:n_whole]):
            x = self._add_attention(i, layer, x, self._attention(i, layer, x, run, workspace.for_attention()), run)
            x = self._add_mlp(i, layer, x, run, workspace.for_neurons(len(x)))
        del workspace  # what follows can use its memory
        for i, layer in enumerate(self.layers[n_whole:], n_whole):
            z = self._attention_at_reads(i, layer, x, run)
            x = self._add_attention(i, layer, run.recorder.only_reads_from_here(x), z, run)
            x = self._add_mlp(i, layer, x, run)
        if LOSSES in sites:
            losses = next_token_losses(self.weights, run.prefixes.spread(x), micro.tokens)
            run.recorder.record_as_it_is(LOSSES, losses)
        return self._read_out(run.recorder.only_reads_from_here(x), run.recorder)

    def _embedded(self, run: _Run) -> Float[Tensor, "token d_model"]:
        """The residual stream in front of the first block."""
        embed, pos_embed = embedding(run.prefixes.ids, self.W_E), embedding(run.prefixes.positions, self.W_pos)
        run.recorder.record(None, embed=embed, pos_embed=pos_embed)
        return embed.add_(pos_embed)

    def _read_out(self, x: Float[Tensor, "prompt d_model"], recorder: ActivationRecorder) -> Activations:
        """Everything that was recorded, with what the final norm and the unembedding make of the last residual."""
        norm, W_U, b_U = self.weights.final_norm, self.weights.W_U, self.weights.b_U
        scale = norm.scale(x)
        recorder.record_as_it_is(FINAL_RESIDUAL, x)
        recorder.record_as_it_is(FINAL_SCALE, scale)
        recorder.record_as_it_is(LOGITS, affine(norm.apply(x, scale), W_U, b_U))
        return recorder.activations()

    def _attention(
        self, i: int, layer: DecoderBlock, x: Tensor, run: _Run, out: Float[Tensor, "3 place heads"]
    ) -> Float[Tensor, "token heads"]:
        """The output of heads at every token, in front of W_O; queries, keys and values are computed in `out`."""
        prefixes, slots, recorder = run.prefixes, run.slots, run.recorder
        recorder.record(i, resid_pre=x)
        normed = layer.ln1(x)
        weights = (layer.W_Q, layer.W_K, layer.W_V), (layer.b_Q, layer.b_K, layer.b_V), out
        q, k, v = (
            self._by_head(prefixes.spread(affine(normed, side_by_side(W), b), place)).transpose(1, 2)
            for W, b, place in zip(*weights, strict=True)
        )
        if recorder.wants("pattern", i):
            asked = slots.fill(self._queries(layer, normed.index_select(0, prefixes.reads)))
            pattern = self._pattern(torch.einsum("srhe,shte->srht", asked, k), slots)
            recorder.record_as_it_is(Site("pattern", i), slots.take(pattern))
        if recorder.wants("pattern", i, "all"):
            scores = q @ k.transpose(2, 3) / self.attn_scale
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(1)
            everywhere = scores.masked_fill_(later, -torch.inf).softmax(-1)
            recorder.record_as_it_is(Site("pattern", i, position="all"), everywhere)
        for name, values in (("q", q), ("k", k), ("v", v)):
            if recorder.wants(name, i, "all"):
                # a copy, head by head in memory, as attention to it will want it
                kept = values.clone(memory_format=torch.contiguous_format).transpose(1, 2)
                recorder.record_as_it_is(Site(name, i, position="all"), kept)
        z = scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / self.attn_scale)
        return prefixes.gather(z.transpose(1, 2).flatten(2))

    def _attention_at_reads(self, i: int, layer: DecoderBlock, x: Tensor, run: _Run) -> Float[Tensor, "prompt heads"]:
        """The same for the read positions alone, without a key or a value: W_K goes to the queries, W_V to the mean.

        b_K adds the same to the scores of all positions, which a softmax does not see.
        """
        prefixes, slots, recorder = run.prefixes, run.slots, run.recorder
        recorder.record(i, resid_pre=x)
        normed = layer.ln1(x)
        queries = self._queries(layer, normed.index_select(0, prefixes.reads))
        asked = slots.fill(torch.einsum("phe,hde->phd", queries, layer.W_K))
        places = prefixes.spread(normed)
        pattern = self._pattern(torch.einsum("srhd,std->srht", asked, places), slots)
        seen = slots.take(torch.einsum("srht,std->srhd", pattern, places))
        z = torch.einsum("phd,hde->phe", seen, layer.W_V).flatten(1)
        if recorder.wants("pattern", i):
            recorder.record_as_it_is(Site("pattern", i), slots.take(pattern))
        weights = {"q": (layer.W_Q, layer.b_Q), "k": (layer.W_K, layer.b_K), "v": (layer.W_V, layer.b_V)}
        for name, (W, b) in weights.items():
            if recorder.wants(name, i, "all"):
                values = self._by_head(prefixes.spread(affine(normed, side_by_side(W), b)))
                recorder.record_as_it_is(Site(name, i, position="all"), values)
        return z if layer.b_V is None else z + layer.b_V

    def _pattern(
        self, scores: Float[Tensor, "sequence slot head position"], slots: Slots
    ) -> Float[Tensor, "sequence slot head position"]:
        """Attention of each prompt to the positions up to its own."""
        later = torch.arange(scores.shape[-1], device=scores.device) > slots.positions[..., None]
        return (scores / self.attn_scale).masked_fill_(later[:, :, None], -torch.inf).softmax(-1)

    def _add_attention(
        self, i: int, layer: DecoderBlock, x: Tensor, z: Tensor, run: _Run
    ) -> Float[Tensor, "token d_model"]:
        """The residual stream once heads, which bring `z`, have written."""
        attn_out = affine(z, layer.writes.W_O.flatten(0, 1), layer.writes.b_O)
        run.recorder.record(i, z=z, attn_out=attn_out)
        return attn_out.add_(x)

    def _add_mlp(
        self, i: int, layer: DecoderBlock, x: Tensor, run: _Run, out: Tensor | None = None
    ) -> Float[Tensor, "token d_model"]:
        """The residual stream once neurons, where there are any, have written; they are computed in `out`."""
        if layer.W_in is None or layer.ln2 is None or layer.writes.W_out is None:
            return x
        mid = self.act(affine(layer.ln2(x), layer.W_in, layer.b_in, out))
        neurons = layer.normed(mid)
        mlp_out = affine(neurons, layer.writes.W_out, layer.writes.b_out)
        run.recorder.record(i, resid_mid=x, neurons=neurons, mlp_out=mlp_out)
        if neurons is not mid:
            run.recorder.record(i, mlp_mid=mid)
        return mlp_out.add_(x)

    def _queries(self, layer: DecoderBlock, normed: Float[Tensor, "n d_model"]) -> Float[Tensor, "n head d_head"]:
        return self._by_head(affine(normed, side_by_side(layer.W_Q), layer.b_Q))

    def _by_head(self, values: Float[Tensor, "*rest heads"]) -> Float[Tensor, "*rest head d_head"]:
        return values.unflatten(-1, (self.weights.shape.n_heads, -1))


@dataclass(frozen=True)
class _Run:
    """One forward pass: which tokens there are, where prompts read, and what is kept."""

    prefixes: SharedPrefixes
    slots: Slots
    recorder: ActivationRecorder

    @classmethod
    def of(cls, micro: MicroBatch, sites: Sequence[Site], decoder: PreNormDecoder) -> _Run:
        like = decoder.W_E
        where = micro.rows, micro.positions
        prefixes = shared_prefixes(micro.tokens, *where, like.device)
        recorder = ActivationRecorder([site for site in sites if site != ADDED], decoder.shapes, prefixes, like)
        return cls(prefixes, slots_of(*where, len(micro.tokens), like.device), recorder)


def affine(
    x: Float[Tensor, "n d"],
    W: Float[Tensor, "d e"],
    b: Float[Tensor, " e"] | None,
    out: Float[Tensor, "n e"] | None = None,
) -> Float[Tensor, "n e"]:
    """Multiply by W and add b, where there is one; computed in `out` where that is given."""
    return torch.mm(x, W, out=out) if b is None else torch.addmm(b, x, W, out=out)


def side_by_side(W: Float[Tensor, "head d_model d_head"]) -> Float[Tensor, "d_model heads"]:
    """Heads side by side, without a copy where the model has them so; made for each use, as all would be large."""
    return W.transpose(0, 1).flatten(1)
