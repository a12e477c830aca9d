"""One view of `HookedTransformer` and `TransformerBridge`: the only place that knows their hook names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.adapters.transformer_lens.embeddings import shown_embeddings, written_before_the_blocks
from maze_dla.adapters.transformer_lens.identity import identity, vocabulary_of
from maze_dla.adapters.transformer_lens.refusals import foreign_errors_named, refuse_what_does_not_add_up
from maze_dla.engine.model import BlockWeights, ModelShape, Norm, Reads, ResidualModel, Wanted, soft_capped
from maze_dla.engine.precision import at_least_single
from maze_dla.errors import ModelError

Hook = tuple[str, Callable[..., Any]]


def residual_model(model: Any) -> ResidualModel:
    """The engine's view of a model: itself where it already is one, else a view of a TransformerLens model.

    Raises:
        ModelError: not a model of TransformerLens, or one whose residual stream is not a plain sum.
    """
    if isinstance(model, ResidualModel):
        return model
    if not all(hasattr(model, name) for name in ("cfg", "hook_dict", "run_with_hooks")):
        raise ModelError(
            "expected a TransformerLens model (HookedTransformer, TransformerBridge) or a MazeModel, got "
            f"{type(model).__name__}"
        )
    with foreign_errors_named(_name(model), "reading its weights"):
        return TransformerLensModel.view(model)


@dataclass(frozen=True, eq=False, repr=False)
class TransformerLensModel:
    """A TransformerLens model with its weights as stored; the model itself is left as found."""

    model: Any
    shape: ModelShape
    precision: torch.dtype
    final_norm: Norm
    blocks: tuple[BlockWeights, ...]
    W_U: Tensor
    b_U: Tensor | None
    logit_cap: float | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def view(cls, model: Any) -> TransformerLensModel:
        """Look at the model's config and weights; nothing is copied but what TransformerLens itself copies."""
        cfg = model.cfg
        refuse_what_does_not_add_up(model)
        attn_only = bool(getattr(cfg, "attn_only", False))
        with torch.no_grad():
            blocks = _all_block_weights(model, attn_only)
            scale = _logit_scale(model)
            W_U, b_U = model.W_U.detach(), parameter(model, "b_U")
            if scale != 1.0:
                W_U, b_U = W_U * scale, None if b_U is None else b_U * scale
        d_mlp = None if blocks[0].W_out is None else blocks[0].W_out.shape[0]
        shape = ModelShape(
            cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_head, d_mlp, W_U.shape[1], cfg.n_ctx, tokens_read(model)
        )  # fmt: skip
        norm = _final_norm(model)
        info = identity(model)
        if getattr(cfg, "parallel_attn_mlp", False):
            info["parallel_attn_mlp"] = True  # no depth lies between a layer's attention and its MLP
        if getattr(model, "compatibility_mode", False):
            info["weights"] = "folded by enable_compatibility_mode"  # heads are without their value biases
        cap = float(getattr(cfg, "output_logits_soft_cap", None) or 0.0)
        if cap > 0:
            info["logits"] = f"before the soft cap of {cap:g}"
        precision = _precision(model, norm, W_U)
        return cls(model, shape, precision, norm, blocks, W_U, b_U, cap if cap > 0 else None, info)

    @property
    def vocabulary(self) -> Sequence[str] | None:
        """Its tokens by id, where they are known."""
        return vocabulary_of(self.model)

    def read(
        self,
        tokens: Int[Tensor, "sequence position"],
        rows: Int[Tensor, "prompt"],
        positions: Int[Tensor, "prompt"],
        wanted: Wanted,
    ) -> Reads:
        """Run the sequences once; the unembedding sees the read positions alone."""
        device = self.W_U.device
        tokens, rows, positions = (t.to(device) for t in (tokens, rows, positions))
        caught: dict[str, Tensor] = {}
        hooks = _ReadHooks(self, rows, positions, wanted, caught).build()
        # a tokenizer would mark tokens that look like padding; all that is read lies in front of any padding
        mask = {"attention_mask": torch.ones_like(tokens)} if getattr(self.model, "tokenizer", None) is not None else {}
        with foreign_errors_named(str(self.info["model"]), "running it"):
            logits = self.model.run_with_hooks(tokens, fwd_hooks=hooks, return_type="logits", **mask)
        return self._sorted(caught, logits[:, 0], wanted)

    def _sorted(self, caught: dict[str, Tensor], logits: Tensor, wanted: Wanted) -> Reads:
        if "final_residual" not in caught:
            raise ModelError(f"{self.info['model']}: nothing was read behind its last block, so no sum can be checked")
        final = caught["final_residual"]
        scale = caught["ln_final.hook_scale"] if "ln_final.hook_scale" in caught else self.final_norm.scale(final)
        if self.logit_cap is not None:
            logits = self._before_the_cap(logits, final, scale)
        each = partial(self._of_all_layers, caught)
        has_mlp = not getattr(self.model.cfg, "attn_only", False)
        return Reads(
            logits=logits,
            final_scale=scale.to(at_least_single(final).dtype),  # some norms answer in float32 inside a float64 model
            embeddings=self._embeddings(caught) if wanted.components else {},
            attn_out=each("hook_attn_out", wanted.components),
            mlp_out=each("hook_mlp_out", wanted.components and has_mlp),
            z=each("attn.hook_z", wanted.components),
            neurons=each("mlp.hook_post", wanted.neurons and self.shape.d_mlp is not None),
            values=[self._to_query_heads(v) for v in each("attn.hook_v", wanted.sources)],
            patterns=each("attn.hook_pattern", wanted.sources),
            depths=self._depths(caught),
        )

    def _of_all_layers(self, caught: dict[str, Tensor], name: str, wanted: bool) -> list[Tensor]:
        """What was caught at one hook in every layer; nothing where it is not wanted.

        Raises:
            ModelError: a layer that did not show it, or heads or neurons of other sizes than the weights have.
        """
        if not wanted:
            return []
        sizes = {"attn.hook_z": [b.W_O.shape[:2] for b in self.blocks], "mlp.hook_post": [(self.shape.d_mlp,)]}
        found = [caught.get(f"blocks.{i}.{name}") for i in range(self.shape.n_layers)]
        for i, activation in enumerate(found):
            if activation is None:
                why = " (only the attention implementation 'eager' does)" if name == "attn.hook_pattern" else ""
                raise ModelError(f"{self.info['model']}: layer {i} did not show {name}{why}, so no sum can be checked")
            expected = tuple(sizes[name][i % len(sizes[name])]) if name in sizes else tuple(activation.shape[1:])
            if tuple(activation.shape[1:]) != expected:
                raise ModelError(
                    f"{self.info['model']}: layer {i} shows {name} of shape {list(activation.shape[1:])}, "
                    f"its weights read {list(expected)}"
                )
        return [activation for activation in found if activation is not None]

    def _embeddings(self, caught: dict[str, Tensor]) -> dict[str, Tensor]:
        start = caught.get("blocks.0.hook_resid_pre")
        shown = {label: caught[name] for label, name in shown_embeddings(self.model.cfg).items() if name in caught}
        if start is None:
            raise ModelError(f"{self.info['model']}: layer 0 did not show hook_resid_pre, the start of the stream")
        return written_before_the_blocks(shown, start)

    def _depths(self, caught: dict[str, Tensor]) -> dict[str, Tensor]:
        depths: dict[str, Tensor] = {}
        for i in range(self.shape.n_layers):
            for label, name in (("pre", "hook_resid_pre"), ("mid", "hook_resid_mid")):
                if (residual := caught.get(f"blocks.{i}.{name}")) is not None:
                    depths[f"{i}_{label}"] = residual
        depths["final_post"] = caught["final_residual"]
        return depths

    def own_norm(self, residual: Float[Tensor, "prompt depth d_model"]) -> Float[Tensor, "prompt depth d_model"] | None:
        """What the model's own final norm makes of residuals; None where it has none."""
        if self.final_norm.kind == "none":
            return None
        return self.model.ln_final(residual.to(self.W_U.dtype))

    def _before_the_cap(self, capped: Tensor, final: Tensor, scale: Tensor) -> Tensor:
        """The logits in front of the soft cap, which are linear where those behind it are not.

        Raises:
            ModelError: capped, they are not the model's own.
        """
        logits = self.final_norm.apply(final, scale).to(self.W_U.dtype) @ self.W_U
        logits = logits if self.b_U is None else logits + self.b_U
        if not torch.allclose(soft_capped(logits, self.logit_cap), capped, rtol=1e-3, atol=1e-3):
            raise ModelError(
                f"the model's logits are not those of its last layer behind a soft cap of {self.logit_cap}"
            )
        return logits

    def _to_query_heads(self, values: Tensor) -> Tensor:
        """Values of grouped-query attention, one for each query head."""
        return values.repeat_interleave(self.shape.n_heads // values.shape[2], dim=2)


@dataclass(frozen=True, eq=False, repr=False)  # TransformerLens takes a hook's repr, which would print the weights
class _ReadHooks:
    """The hooks of one forward pass: each keeps the read positions of an activation, and no more."""

    view: TransformerLensModel
    rows: Tensor
    positions: Tensor
    wanted: Wanted
    caught: dict[str, Tensor]

    def build(self) -> list[Hook]:
        n, wanted = self.view.shape.n_layers, self.wanted
        per_block: list[tuple[str, Callable[[Tensor], Tensor]]] = []
        if wanted.components:
            per_block += [("hook_attn_out", self._at_reads), ("attn.hook_z", self._at_reads)]
            per_block += [("hook_mlp_out", self._at_reads)]
        if wanted.neurons and self.view.shape.d_mlp is not None:
            per_block += [("mlp.hook_post", self._at_reads)]
        if wanted.sources:
            per_block += [("attn.hook_v", torch.clone), ("attn.hook_pattern", self._pattern_rows)]
        if wanted.depths:
            per_block += [("hook_resid_pre", self._at_reads), ("hook_resid_mid", self._at_reads)]
        hooks = [(f"blocks.{i}.{name}", keep) for i in range(n) for name, keep in per_block]
        if wanted.components:
            hooks += [("hook_embed", self._at_reads), ("hook_pos_embed", self._at_reads)]
            if not wanted.depths:
                hooks += [("blocks.0.hook_resid_pre", self._at_reads)]
        known = self.view.model.hook_dict
        built: list[Hook] = [(name, self._keeper(name, keep)) for name, keep in hooks if name in known]
        last = f"blocks.{n - 1}.hook_resid_post"
        # the unembedding gets the read positions alone: from a bridge's own hook in front of it, else from the last
        # block on. What runs between a bridge's blocks and its unembedding may insist on the shape of the batch.
        from_unembed_on = "unembed.hook_in" in known
        built.append((last, self._keeper("final_residual", self._at_reads)))
        built.append(("unembed.hook_in" if from_unembed_on else last, self._only_reads_go_on))
        if "ln_final.hook_scale" in known and self.view.final_norm.kind != "none":
            keep = self._scale_at_reads if from_unembed_on else lambda scale: scale[:, 0, 0].clone()
            built.append(("ln_final.hook_scale", self._keeper("ln_final.hook_scale", keep)))
        return built

    def _keeper(self, name: str, keep: Callable[[Tensor], Tensor]) -> Callable[..., None]:
        def hook(activation: Tensor, hook: Any) -> None:
            self.caught[name] = keep(activation)

        return hook

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


def _all_block_weights(model: Any, attn_only: bool) -> tuple[BlockWeights, ...]:
    """What each block writes with; no neurons where not all blocks have as many of them (mixtures of experts)."""
    factor = _write_factor(model)
    blocks = tuple(_block_weights(block, attn_only, factor) for block in model.blocks)
    if len({None if block.W_out is None else len(block.W_out) for block in blocks}) > 1:
        return tuple(replace(block, W_out=None, b_out=None) for block in blocks)
    return blocks


def _block_weights(block: Any, attn_only: bool, factor: float) -> BlockWeights:
    mlp = None if attn_only else getattr(block, "mlp", None)
    W_out = parameter(mlp, "W_out")
    found = (block.attn.W_O.detach(), parameter(block.attn, "b_O"), W_out)
    found = (*found, None if W_out is None else parameter(mlp, "b_out"))
    return BlockWeights(*(w if w is None or factor == 1.0 else w * factor for w in found))  # pyright: ignore


def _write_factor(model: Any) -> float:
    """What Granite's blocks multiply with before they add to the stream; their hooks show the product."""
    return float(getattr(model.cfg, "residual_multiplier", None) or 1.0)


def parameter(module: Any, name: str) -> Tensor | None:
    """A weight by its name, without its gradient; None where there is none."""
    value = getattr(module, name, None)
    return value.detach() if isinstance(value, Tensor) else None


def tokens_read(model: Any) -> int:
    """How many tokens a model reads: the rows of W_E."""
    W_E = parameter(model, "W_E")
    return int(model.cfg.d_vocab) if W_E is None else W_E.shape[0]


def norm_of(model: Any, module: Any) -> Norm:
    """A norm's kind by the config's words, its weight and bias where it has them."""
    kind = model.cfg.normalization_type
    if kind is None:
        return Norm("none")
    rms = kind.upper().startswith("RMS")
    folded = kind.upper().endswith("PRE")
    weight, bias = (None, None) if folded else (parameter(module, "w"), parameter(module, "b"))
    return Norm("rms" if rms else "layer", weight, bias, float(model.cfg.eps))


def _final_norm(model: Any) -> Norm:
    """The norm before the unembedding; its kind and the meaning of its weight may be its own."""
    norm = norm_of(model, getattr(model, "ln_final", None))
    if getattr(model.cfg, "final_rms", False):
        norm = replace(norm, kind="rms")
    if norm.weight is None:
        return norm
    from_one = replace(norm, weight=1.0 + at_least_single(norm.weight))  # as Gemma's models hold and compute it
    return min(norm, from_one, key=lambda n: _distance(model, n))


def _distance(model: Any, norm: Norm) -> float:
    """How far the norm is from what the model's own makes of one residual."""
    weight = model.W_U
    probe = torch.linspace(-1, 2, weight.shape[0], dtype=weight.dtype, device=weight.device).cos()[None, None]
    with torch.no_grad():
        own, ours = model.ln_final(probe), norm.apply(probe, norm.scale(probe))
    return float((own - ours).abs().max())


def _precision(model: Any, norm: Norm, W_U: Tensor) -> torch.dtype:
    """The dtype that logits are computed in: some norms work in float32 inside a float64 model."""
    if W_U.dtype != torch.float64 or norm.kind == "none":
        return W_U.dtype
    return torch.float64 if _distance(model, norm) < 1e-11 else torch.float32


def _logit_scale(model: Any) -> float:
    """What the unembedding's output is multiplied by: a factor in Cohere's models, a divisor in Granite's.

    Cohere's factor is in W_U once compatibility mode has put it there.
    """
    adapter, cfg = getattr(model, "adapter", None), model.cfg
    factor = 1.0 if getattr(adapter, "_logit_scale_already_folded", False) else getattr(cfg, "logit_scale", None)
    return float(factor or 1.0) / float(getattr(cfg, "logits_scaling", None) or 1.0)


def _name(model: Any) -> str:
    return getattr(model.cfg, "model_name", None) or "unnamed"
