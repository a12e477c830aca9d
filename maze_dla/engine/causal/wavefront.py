"""All edits of a pre-norm decoder as one wavefront: a batch of branches that grows from layer to layer.

An edit at a layer and a position leaves everything at earlier layers and earlier positions as it was, and only the read
position is wanted. So each branch leaves the plain run where its first edit is, with the tokens from there on; keys and
values in front of it are those of the plain run, and the last block runs at the read positions alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.causal.branches import Branches, Piece, pieces_of
from maze_dla.engine.causal.keys import CopiedKeys, Layout, attend
from maze_dla.engine.devices import to_device
from maze_dla.engine.edits import BEFORE_ATTENTION, Edit, Rerun
from maze_dla.engine.forward.decoder import DecoderBlock, PreNormDecoder, affine, side_by_side
from maze_dla.engine.forward.losses import losses_of
from maze_dla.engine.forward.running import batch_limits
from maze_dla.engine.model import MicroBatch
from maze_dla.engine.sites import FINAL_RESIDUAL, FINAL_SCALE, LOGITS, LOSSES, Activations, Site
from maze_dla.errors import InputError

RECORDED = ("z", "attn_out", "resid_mid", "neurons", "mlp_out")  # of layers, what branches record
MOST_TOKENS = 1024  # of all branches that are run together on a CPU, and fewer where their activations are larger
Held = int | Int[Tensor, " _"]  # so many of the first tokens, or these, in order
FEWEST_TOKENS, MOST_BYTES = 256, 3 << 20  # of a layer's largest activations
SHARE_ELSEWHERE = 0.125  # of the tokens of a plain run
MOST_PAIRS = 1 << 20  # of tokens and the keys that they are compared with


def editable(
    decoder: PreNormDecoder, micro: MicroBatch, sites: Sequence[Site], edited: Collection[Site]
) -> tuple[Activations, Rerun]:
    """Run the sequences once; the sites, and what runs branches with edits: `ForwardPass.editable` of the decoder."""
    of_plain = _sites_of_plain_run(decoder, edited, LOSSES in sites)
    plain = decoder(micro, list(dict.fromkeys([*sites, *of_plain])))
    return plain, _rerun_of(decoder, micro, plain)


def _sites_of_plain_run(decoder: PreNormDecoder, edited: Collection[Site], everywhere: bool) -> list[Site]:
    """All that branches need of the plain run, besides what is recorded of them, at read positions or everywhere."""
    n_layers = decoder.weights.shape.n_layers
    at = "all" if any(site.position == "all" for site in edited) or everywhere else "read"
    sites = [Site(name, i, position="all") for i in range(n_layers) for name in ("k", "v")]
    sites += [Site("resid_pre", i, position=at) for i in range(n_layers)]
    if any(site.name not in BEFORE_ATTENTION for site in edited):
        last = Site("z", n_layers - 1, position="all" if everywhere else "read")
        sites += [*(Site("z", i, position=at) for i in range(n_layers - 1)), last]
    return sites


def _rerun_of(decoder: PreNormDecoder, micro: MicroBatch, plain: Activations) -> Rerun:
    """The function that runs branches, from a plain run that recorded `_sites_of_plain_run`."""

    def rerun(prompts: Int[Tensor, " branch"], edits: Sequence[Edit], sites: Sequence[Site]) -> Activations:
        _refuse_others(sites)
        shape, reads = decoder.weights.shape, micro.positions[prompts]
        found: dict[Site, Tensor] = {}
        pairs = MOST_PAIRS * 4 // shape.n_heads
        for piece in pieces_of(prompts, reads, edits, shape.n_layers, _most_tokens(decoder), pairs):
            numbers = to_device(piece.numbers, decoder.W_E.device)
            for site, values in _Wave(decoder, micro, plain, piece, sites).run().items():
                if site not in found:
                    found[site] = values.new_empty(len(prompts), *values.shape[1:])
                found[site].index_copy_(0, numbers, values)
        return found

    return rerun


def _most_tokens(decoder: PreNormDecoder) -> int:
    """How many tokens of branches are run together."""
    shape, W_E = decoder.weights.shape, decoder.W_E
    if W_E.device.type != "cpu":
        return int(batch_limits(decoder.weights, None).tokens * SHARE_ELSEWHERE)
    fitting = MOST_BYTES // (W_E.element_size() * (shape.d_mlp or shape.d_model))
    return min(max(fitting, FEWEST_TOKENS), MOST_TOKENS)


def _refuse_others(sites: Sequence[Site]) -> None:
    """Refuse sites of which the plain run's activation would stand for the branch's, and others beside losses."""
    if LOSSES in sites and len(sites) > 1:
        raise InputError(f"losses of branches are recorded by themselves, got {len(sites)} sites")
    of_layers = [site for site in sites if site.layer is not None]
    if others := [s for s in of_layers if s.name not in RECORDED or s.head is not None or s.position != "read"]:
        raise InputError(f"branches record {', '.join(RECORDED)} at read positions, all heads, got {others[0]}")


@dataclass(frozen=True, eq=False)
class _Wave:
    """One piece of the branches, from the first layer to the last."""

    decoder: PreNormDecoder
    micro: MicroBatch
    plain: Activations
    piece: Piece
    sites: Sequence[Site]

    @property
    def branches(self) -> Branches:
        return self.piece.branches

    @property
    def device(self) -> torch.device:
        return self.decoder.W_E.device

    @cached_property
    def entries(self) -> dict[tuple[str, int | None], list[tuple[Edit, Tensor]]]:
        """The edits by name and layer, each with the tokens of its entries."""
        b = self.branches
        by_place: dict[tuple[str, int | None], list[tuple[Edit, Tensor]]] = {}
        for edit in self.piece.edits:
            if len(edit.branches):
                tokens = b.offsets[edit.branches] + edit.positions - b.starts[edit.branches]
                by_place.setdefault((edit.site.name, edit.site.layer), []).append((edit, tokens))
        return by_place

    @cached_property
    def found(self) -> dict[Site, Tensor]:
        """The recorded activations: at first, that of the plain run."""
        prompts = to_device(self.branches.prompts, self.device)
        return {s: self.plain[s].index_select(0, prompts) for s in self.sites if s.layer is not None}

    @cached_property
    def rows(self) -> tuple[Int[Tensor, " token"], Int[Tensor, " token"]]:
        """Where each token's activations lie in what the plain run recorded, at all positions and at read positions."""
        b = self.branches
        prompts = b.prompts[b.branch_of]
        everywhere = self.micro.rows[prompts] * self.micro.tokens.shape[1] + b.positions
        return to_device(everywhere, self.device), to_device(prompts, self.device)

    @cached_property
    def stream(self) -> Float[Tensor, "token d_model"]:
        """The residual stream of all branches, of which the first are awake."""
        return self.decoder.W_E.new_empty(len(self.branches.branch_of), self.decoder.weights.shape.d_model)

    @cached_property
    def copied_keys(self) -> CopiedKeys:
        """Attention where all branches are long."""
        return CopiedKeys(self.branches, self.device, self.decoder.W_E.dtype)

    def run(self) -> Activations:
        """The sites at the read position of each branch; or its losses at all positions."""
        x = self.stream[:0]
        for i, layer in enumerate(self.decoder.layers):
            x = self._layer(i, layer, len(x))
        if LOSSES in self.sites:
            return {LOSSES: self._losses(x)}
        weights = self.decoder.weights
        scale = weights.final_norm.scale(x)
        for site in self.sites:
            if site in (FINAL_RESIDUAL, FINAL_SCALE):
                self.found[site] = x if site == FINAL_RESIDUAL else scale
            if site == LOGITS:
                self.found[site] = affine(weights.final_norm.apply(x, scale), weights.W_U, weights.b_U)
        return self.found

    def _layer(self, i: int, layer: DecoderBlock, n_held: int) -> Float[Tensor, "held d_model"]:
        """The stream behind a layer, at all tokens of all branches that are awake; of the last, where they are read.

        Of the last before losses: at all tokens of branches that were awake, and at the edited ones of the others.
        """
        b, stream, last = self.branches, self.stream, i == len(self.decoder.layers) - 1
        at_reads = last and LOSSES not in self.sites
        n_branches = b.awake(2 * i)
        n_tokens, n_woken = b.tokens_of(n_branches), b.tokens_of(b.awake(2 * i + 1))
        self._wake(i, n_held, n_tokens)
        x = stream[:n_tokens]
        self._put("resid_pre", i, x, n_tokens)
        asked = b.read_tokens[:n_branches] if at_reads else n_tokens
        z = self._attention(i, layer, layer.ln1(x), n_branches, asked)
        late = b.read_tokens[n_branches:] if at_reads else self._late_tokens(i)
        if at_reads:
            x = x.index_select(0, to_device(b.read_tokens[:n_branches], x.device))
        if len(late):
            x, z = (torch.cat([held, self._plain(n, i, late)]) for n, held in (("resid_pre", x), ("z", z)))
        x = self._behind_attention(i, layer, x, z, _joined(asked, late))
        if last:
            return x
        stream[:n_tokens] = x[:n_tokens]
        if n_woken > n_tokens:
            self._wake(i + 1, n_tokens, n_woken)
            stream.index_copy_(0, to_device(late, x.device), x[n_tokens:])
        return stream[:n_woken]

    def _wake(self, i: int, first: int, end: int) -> None:
        """Put the plain run's stream in front of a layer where tokens begin to differ from it."""
        if end > first:
            self.stream[first:end] = self._plain("resid_pre", i, slice(first, end))

    def _losses(self, x: Float[Tensor, "held d_model"]) -> Float[Tensor, "branch position"]:
        """The losses of branches: the plain run's where no edit reaches, others from the final residual."""
        b, micro, last = self.branches, self.micro, len(self.decoder.layers) - 1
        held = torch.cat([torch.arange(b.tokens_of(b.awake(2 * last))), self._late_tokens(last)])
        scored = torch.nonzero(b.positions[held] < micro.positions[b.prompts][b.branch_of[held]]).flatten()
        branches, positions = b.branch_of[held[scored]], b.positions[held[scored]]
        rows = micro.rows[b.prompts]
        found = self.plain[LOSSES].index_select(0, to_device(rows, x.device))
        residual = x.index_select(0, to_device(scored, x.device))
        following = micro.tokens[rows[branches], positions + 1]
        at = (to_device(branches, x.device), to_device(positions, x.device))
        return found.index_put_(at, losses_of(self.decoder.weights, residual, following).to(found))

    def _late_tokens(self, i: int) -> Int[Tensor, " token"]:
        """The tokens that are edited behind a layer's attention in branches which wake there, in order."""
        first, end = (self.branches.tokens_of(self.branches.awake(stage)) for stage in (2 * i, 2 * i + 1))
        edited = [torch.empty(0, dtype=torch.long)]
        if end > first:
            edited += [t for (_, at), held in self.entries.items() if at == i for _, t in held]
        tokens = torch.cat(edited).unique()
        return tokens[(tokens >= first) & (tokens < end)]

    def _attention(
        self, i: int, layer: DecoderBlock, normed: Float[Tensor, "token d_model"], n_branches: int, asked: Held
    ) -> Float[Tensor, "asked head d_head"]:
        """The output of heads at the tokens that are asked, in front of W_O."""
        if n_branches == 0:
            return normed.new_empty(0, *layer.W_Q.shape[::2])
        queried = normed if isinstance(asked, int) else normed.index_select(0, to_device(asked, normed.device))
        q = self._edited("q", i, affine(queried, side_by_side(layer.W_Q), layer.b_Q), asked)
        k = self._edited("k", i, affine(normed, side_by_side(layer.W_K), layer.b_K), len(normed))
        v = self._edited("v", i, affine(normed, side_by_side(layer.W_V), layer.b_V), len(normed))
        keys, values = (self._of_plain_run(name, i) for name in ("k", "v"))
        q.div_(self.decoder.attn_scale)
        edits = [(edit, *_among(asked, tokens)) for edit, tokens in self.entries.get(("pattern", i), ())]
        if self.branches.long and not edits:
            return self.copied_keys.attend(q, k, v, keys, values)
        at = torch.arange(asked) if isinstance(asked, int) else asked
        return attend(Layout(self.branches, n_branches, at, self.device), q, k, v, keys, values, edits)

    def _of_plain_run(self, name: str, i: int) -> Float[Tensor, "prompt head position d_head"]:
        """Keys or values of the plain run, of the prompts that branches are copies of."""
        held = self.plain[Site(name, i, position="all")].transpose(1, 2)
        rows = self.micro.rows[self.branches.distinct_prompts]
        if len(rows) == len(held) and torch.equal(rows, torch.arange(len(held))):
            return held
        return held.index_select(0, to_device(rows, held.device))

    def _behind_attention(
        self, i: int, layer: DecoderBlock, x: Tensor, z: Tensor, held: Held
    ) -> Float[Tensor, "token d_model"]:
        """The stream once heads and neurons have written, at the tokens that are held."""
        self._put("z", i, z, held)
        attn_out = affine(z.flatten(1), layer.writes.W_O.flatten(0, 1), layer.writes.b_O)
        self._put("attn_out", i, attn_out, held)
        self._record(i, held, z=z, attn_out=attn_out)
        x = attn_out.add_(x)
        self._put("resid_mid", i, x, held)
        if layer.W_in is None or layer.ln2 is None or layer.writes.W_out is None:
            return x
        neurons = layer.normed(self.decoder.act(affine(layer.ln2(x), layer.W_in, layer.b_in)))
        self._put("neurons", i, neurons, held)
        mlp_out = affine(neurons, layer.writes.W_out, layer.writes.b_out)
        self._put("mlp_out", i, mlp_out, held)
        self._record(i, held, resid_mid=x, neurons=neurons, mlp_out=mlp_out)
        return mlp_out.add_(x)

    def _edited(self, name: str, i: int, values: Tensor, held: Held) -> Float[Tensor, "token head d_head"]:
        values = values.unflatten(-1, (self.decoder.weights.shape.n_heads, -1))
        self._put(name, i, values, held)
        return values

    def _put(self, name: str, i: int, values: Float[Tensor, "held ..."], held: Held) -> None:
        """Put the edits of a site in place, at those of their tokens that are held."""
        for edit, tokens in self.entries.get((name, i), ()):
            places, entries = _among(held, tokens)
            into = values if edit.site.head is None else values.select(1, edit.site.head)
            chosen = edit.values[to_device(entries, edit.values.device)].to(values)
            into.index_copy_(0, to_device(places, values.device), chosen)

    def _record(self, i: int, held: Held, **values: Tensor) -> None:
        """Keep what is asked for of a layer, of the branches whose read positions are held."""
        sites = {Site(name, i): value for name, value in values.items()} if self.found else {}
        for site, value in sites.items():
            if site in self.found:
                places, branches = _among(held, self.branches.read_tokens)
                rows, at = to_device(branches, value.device), to_device(places, value.device)
                self.found[site].index_copy_(0, rows, value.index_select(0, at))

    def _plain(self, name: str, i: int, tokens: slice | Int[Tensor, " token"]) -> Float[Tensor, "token ..."]:
        """An activation of the plain run at tokens of branches."""
        at_all, at_reads = self.rows
        everywhere = self.plain.get(Site(name, i, position="all"))
        if everywhere is None:
            return self.plain[Site(name, i)].index_select(0, at_reads[tokens])
        return everywhere.flatten(0, 1).index_select(0, at_all[tokens])


def _joined(held: Held, late: Int[Tensor, " _"]) -> Held:
    """Tokens that are held, and then others."""
    if len(late) == 0:
        return held
    return torch.cat([torch.arange(held) if isinstance(held, int) else held, late])


def _among(held: Held, tokens: Int[Tensor, " _"]) -> tuple[Tensor, Tensor]:
    """Where tokens stand among those that are held, in order, and which of them do."""
    if isinstance(held, int):
        entries = torch.nonzero(tokens < held).flatten()
        return tokens[entries], entries
    if len(held) == 0:
        return held, held
    places = torch.searchsorted(held, tokens).clamp_max(len(held) - 1)
    entries = torch.nonzero(held[places] == tokens).flatten()
    return places[entries], entries
