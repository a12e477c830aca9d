"""The forward pass of a model of TransformerLens 2, 3 or 4 itself: the only place that knows hook names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.adapters.transformer_lens.editability import Editability
from maze_dla.adapters.transformer_lens.embeddings import adds_positions, written_before_the_blocks
from maze_dla.adapters.transformer_lens.hooked_edits import EditHooks, HookedRerun, SiteHook, pattern_as_edited
from maze_dla.adapters.transformer_lens.hooked_gradients import Tracked, metric_along, refuse_other_gradients
from maze_dla.adapters.transformer_lens.refusals import foreign_errors_named
from maze_dla.engine.edits import Edit, Rerun
from maze_dla.engine.forward.losses import next_token_losses
from maze_dla.engine.model import MicroBatch, ModelWeights, soft_capped
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.sites import ADDED, EMBEDDINGS, FINAL_RESIDUAL, FINAL_SCALE, LOGITS, LOSSES, Activations, Site
from maze_dla.errors import ModelError

HOOKS = {
    "embed": "hook_embed",
    "pos_embed": "hook_pos_embed",
    "resid_pre": "blocks.{}.hook_resid_pre",
    "attn_out": "blocks.{}.hook_attn_out",
    "z": "blocks.{}.attn.hook_z",
    "q": "blocks.{}.attn.hook_q",
    "k": "blocks.{}.attn.hook_k",
    "v": "blocks.{}.attn.hook_v",
    "pattern": "blocks.{}.attn.hook_pattern",
    "resid_mid": "blocks.{}.hook_resid_mid",
    "mlp_out": "blocks.{}.hook_mlp_out",
    "neurons": "blocks.{}.mlp.hook_post",
    "mlp_mid": "blocks.{}.mlp.hook_mid",
}
ALSO = {"mlp_mid": "blocks.{}.mlp.ln.hook_in"}  # the names of later versions
START_OF_STREAM = tuple(map(Site, EMBEDDINGS))  # of which a model may show some
START = Site("resid_pre", 0)
FINAL_EVERYWHERE = Site("final_residual", position="all")
SCALE = "ln_final.hook_scale"
Caught = dict[Site, Tensor]
Hook = tuple[str, Callable[..., Any]]


def sites_of(model: Any, weights: ModelWeights) -> frozenset[str]:
    """The names of the sites that a model has."""
    cfg, n_layers = model.cfg, weights.shape.n_layers
    missing = set() if adds_positions(cfg) else {"pos_embed"}  # shortformer and rotary models use them elsewhere
    if getattr(cfg, "attn_only", False):
        missing |= {"resid_mid", "mlp_out"}
    if weights.shape.d_mlp is None:
        missing |= {"neurons"}
    for name in ("embed", "pos_embed", "resid_mid", "q", "k", "mlp_mid"):
        if not all(_hook_name(model, Site(name, i)) in model.hook_dict for i in range(n_layers)):
            missing |= {name}
    return frozenset({*HOOKS, ADDED.name} - missing)


def _hook_name(model: Any, site: Site) -> str:
    """The name of a site's hook, of those that it goes by the one that the model has."""
    name = HOOKS[site.name].format(site.layer)
    return name if name in model.hook_dict else ALSO.get(site.name, name).format(site.layer)


@dataclass(frozen=True, eq=False, repr=False)  # TransformerLens takes a hook's repr, which would print the weights
class HookedModel:
    """A TransformerLens model as a `ForwardPass`: run itself, with hooks; it is left as found."""

    model: Any
    weights: ModelWeights
    name: str

    def __call__(self, micro: MicroBatch, sites: Sequence[Site]) -> Activations:
        """Run the sequences once; the unembedding sees the read positions alone."""
        return self._with_edits(micro, sites, ())

    def editable(self, micro: MicroBatch, sites: Sequence[Site], edited: Collection[Site]) -> tuple[Activations, Rerun]:
        """Run the sequences once; and what runs copies of prompts with edits, which hooks make.

        Raises:
            ModelError: the model has no such site, or it cannot be edited, which is found by trying it.
        """
        found = self(micro, sites)
        self._editability.check(edited, micro.tokens)
        return found, HookedRerun(self._with_edits, self.weights, micro, self._editability)

    def gradients(
        self, micro: MicroBatch, sites: Sequence[Site], direction: Float[Tensor, "prompt d_model"]
    ) -> tuple[Activations, Activations]:
        """The activations of sites at all positions, and the gradients of the metric there, [sequence, position, ...].

        The stream of layer 0 is where the gradients end: no weight gets any. The metric is that of directions after the
        final norm, whose scale has a gradient too, summed over the prompts.

        Raises:
            InputError: a site at the read position, or directions of another shape.
            ModelError: the model has no such site, or does not go on with what it shows there.
        """
        refuse_other_gradients(micro, sites, direction, self.weights.shape.d_model)
        self._editability.check(sites, micro.tokens)
        tracked = Tracked(sites)
        with torch.enable_grad(), foreign_errors_named(self.name, "differentiating it"):
            final = self._run(micro, (), tracked.hooks())[FINAL_RESIDUAL]
            return tracked.gradients(metric_along(final, self.weights.final_norm, direction))

    @cached_property
    def _editability(self) -> Editability:
        return Editability(self._with_edits, self.weights, sites_of(self.model, self.weights), self.name)

    def _with_edits(self, micro: MicroBatch, sites: Sequence[Site], edits: Sequence[Edit]) -> Activations:
        """One forward pass; where there are edits, each prompt has a row of its own, which is a branch."""
        putting = EditHooks(edits)
        caught = self._run(micro, sites, putting.before_recording(), putting.after_recording())
        for edit in edits:
            if (shown := Site("pattern", edit.site.layer)) in caught and edit.site.name == "pattern":
                caught[shown] = pattern_as_edited(caught[shown], edit, micro.positions)
        if any(site.name in EMBEDDINGS for site in sites):
            self._add_embeddings(caught)
        shown = [site for site in sites if site in caught or site not in START_OF_STREAM]
        return {site: site.pick(self._shown(caught, site)) for site in shown}

    def _run(
        self, micro: MicroBatch, sites: Sequence[Site], first: Sequence[SiteHook] = (), last: Sequence[SiteHook] = ()
    ) -> Caught:
        """One forward pass: everything that its hooks recorded, between other hooks of sites, and its end."""
        device = self.weights.W_U.device
        tokens, rows, positions = (t.to(device) for t in (micro.tokens, micro.rows, micro.positions))
        caught: Caught = {}
        recording = _Hooks(self.model, self.weights, rows, positions, caught).build(sites)
        hooks = [*self._named(first), *recording, *self._named(last)]
        # a tokenizer would mark tokens that look like padding; all that is read lies in front of any padding
        mask = {"attention_mask": torch.ones_like(tokens)} if getattr(self.model, "tokenizer", None) is not None else {}
        with foreign_errors_named(self.name, "running it"):
            logits = self.model.run_with_hooks(tokens, fwd_hooks=hooks, return_type="logits", **mask)
        self._add_the_end(caught, logits[:, 0])
        if FINAL_EVERYWHERE in caught:
            caught[LOSSES] = next_token_losses(self.weights, caught.pop(FINAL_EVERYWHERE), tokens)
        return caught

    def _named(self, hooks: Sequence[SiteHook]) -> list[Hook]:
        """Hooks by the names of those that the model has; where an edit needs another, trying it has failed."""
        named = [(HOOKS[site.name].format(site.layer), hook) for site, hook in hooks]
        return [(name, hook) for name, hook in named if name in self.model.hook_dict]

    def _add_the_end(self, caught: Caught, logits: Tensor) -> None:
        """The final scale in the precision of the residual, the logits in front of a soft cap."""
        if FINAL_RESIDUAL not in caught:
            raise ModelError(f"{self.name}: nothing was read behind its last block, so no sum can be checked")
        final = caught[FINAL_RESIDUAL]
        scale = caught[FINAL_SCALE] if FINAL_SCALE in caught else self.weights.final_norm.scale(final)
        caught[LOGITS] = logits if self.weights.logit_cap is None else self._before_the_cap(logits, final, scale)
        caught[FINAL_SCALE] = scale.to(at_least_single(final).dtype)  # some norms answer in float32 in a float64 model

    def _add_embeddings(self, caught: Caught) -> None:
        """Add the embeddings' vectors, and whatever else is in the stream where the first block begins."""
        if START not in caught:
            raise ModelError(f"{self.name}: layer 0 did not show hook_resid_pre, the start of the stream")
        shown = {name: caught[Site(name)] for name in EMBEDDINGS if Site(name) in caught}
        written = written_before_the_blocks(shown, caught[START])
        caught.update((Site(name), vector) for name, vector in written.items())

    def _shown(self, caught: Caught, site: Site) -> Tensor:
        """The activation of a site.

        Raises:
            ModelError: a layer that did not show it, or heads or neurons of other sizes than the weights have.
        """
        activation = caught.get(Site(site.name, site.layer, position=site.position))
        hook = HOOKS.get(site.name, site.name).removeprefix("blocks.{}.")
        if activation is None:
            why = " (only the attention implementation 'eager' does)" if site.name == "pattern" else ""
            raise ModelError(f"{self.name}: layer {site.layer} did not show {hook}{why}, so no sum can be checked")
        if site.name in ("z", "neurons", "mlp_mid") and site.layer is not None:
            shape = self.weights.blocks[site.layer].W_O.shape[:2] if site.name == "z" else [self.weights.shape.d_mlp]
            seen = list(activation.shape[1 if site.position == "read" else 2 :])
            if seen != list(shape):
                raise ModelError(
                    f"{self.name}: layer {site.layer} shows {hook} of shape {seen}, its weights read {list(shape)}"
                )
        return activation

    def _before_the_cap(self, capped: Tensor, final: Tensor, scale: Tensor) -> Tensor:
        """The logits in front of the soft cap, which are linear where those after it are not.

        Raises:
            ModelError: capped, they are not the model's own.
        """
        logits, cap = self.weights.logits(final, scale), self.weights.logit_cap
        if not torch.allclose(soft_capped(logits, cap), capped.to(logits), rtol=1e-3, atol=1e-3):
            raise ModelError(f"the model's logits are not those of its last layer behind a soft cap of {cap}")
        return logits


@dataclass(frozen=True, eq=False, repr=False)
class _Hooks:
    """The hooks of one forward pass: each keeps what its site asks for, and no more."""

    model: Any
    weights: ModelWeights
    rows: Tensor
    positions: Tensor
    caught: Caught

    def build(self, sites: Sequence[Site]) -> list[Hook]:
        known, n_layers = self.model.hook_dict, self.weights.shape.n_layers
        asked = {Site(site.name, site.layer, position=site.position) for site in sites if site.name in HOOKS}
        asked = {site for site in asked if (site.layer is None) == ("{}" not in HOOKS[site.name])}
        if any(site.name in EMBEDDINGS for site in sites):
            asked |= {Site("embed"), START, *([Site("pos_embed")] if adds_positions(self.model.cfg) else [])}
        hooks = [(_hook_name(self.model, site), self._keeper(site, self._kept_of(site))) for site in asked]
        built: list[Hook] = [(name, keep) for name, keep in hooks if name in known]
        last = f"blocks.{n_layers - 1}.hook_resid_post"
        # the unembedding gets the read positions alone: from a bridge's own hook in front of it, else from the last
        # block on. What runs between a bridge's blocks and its unembedding may insist on the shape of the batch.
        from_unembed_on = "unembed.hook_in" in known
        if LOSSES in sites:
            built.append((last, self._keeper(FINAL_EVERYWHERE, torch.clone)))
        built.append((last, self._keeper(FINAL_RESIDUAL, self._at_reads)))
        built.append(("unembed.hook_in" if from_unembed_on else last, self._only_reads_go_on))
        if SCALE in known and self.weights.final_norm.kind != "none":
            keep = self._scale_at_reads if from_unembed_on else lambda scale: scale[:, 0, 0].clone()
            built.append((SCALE, self._keeper(FINAL_SCALE, keep)))
        return built

    def _keeper(self, site: Site, keep: Callable[[Tensor], Tensor]) -> Callable[..., None]:
        def hook(activation: Tensor, hook: Any) -> None:
            self.caught[site] = keep(activation)

        return hook

    def _kept_of(self, site: Site) -> Callable[[Tensor], Tensor]:
        if site.position == "all":
            return torch.clone
        return self._pattern_rows if site.name == "pattern" else self._at_reads

    def _at_reads(self, activation: Tensor) -> Tensor:
        if activation.shape[0] == 1:  # position embeddings may come once for all sequences
            return activation[0, self.positions]
        return activation[self.rows, self.positions]

    def _pattern_rows(self, pattern: Tensor) -> Tensor:
        return pattern[self.rows, :, self.positions]

    def _scale_at_reads(self, scale: Tensor) -> Tensor:
        return self._at_reads(scale)[:, 0]

    def _only_reads_go_on(self, residual: Tensor, hook: Any) -> Tensor:
        return self._at_reads(residual)[:, None]
