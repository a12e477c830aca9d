"""Models of TransformerLens as the engine sees them: weights, sites, and a forward pass."""

from __future__ import annotations

from typing import Any, Literal

from maze_dla.adapters.transformer_lens.hooked import HookedModel, sites_of
from maze_dla.adapters.transformer_lens.identity import identity, vocabulary_of
from maze_dla.adapters.transformer_lens.own_decoder import own_decoder
from maze_dla.adapters.transformer_lens.refusals import foreign_errors_named
from maze_dla.adapters.transformer_lens.verified import VerifiedModel
from maze_dla.adapters.transformer_lens.weights import model_weights
from maze_dla.engine.model import ModelWeights, ResidualModel
from maze_dla.errors import ModelError

Forward = Literal["auto", "hooked"]


def view(model: Any, forward: Forward = "auto") -> ResidualModel:
    """The engine's view of a model of TransformerLens, for one run.

    Args:
        model: it is left as found.
        forward: "auto" runs plain pre-norm decoders by the engine's own forward pass, on the model's own weights,
            once it has given the model's own logits for the first prompts; "hooked" runs the model itself with hooks.

    Raises:
        ModelError: not a model of TransformerLens, or one whose residual stream is not a plain sum.
    """
    if not all(hasattr(model, name) for name in ("cfg", "hook_dict", "run_with_hooks")):
        raise ModelError(
            "expected a TransformerLens model (HookedTransformer, TransformerBridge) or a MazeModel, got "
            f"{type(model).__name__}"
        )
    with foreign_errors_named(getattr(model.cfg, "model_name", None) or "unnamed", "reading its weights"):
        weights = model_weights(model)
        info = _described(model, weights)
        decoder = own_decoder(model, weights) if forward == "auto" else None
    hooked = HookedModel(model, weights, str(info["model"]))
    return ResidualModel(
        weights=weights,
        forward=hooked if decoder is None else VerifiedModel(decoder, hooked),
        sites=sites_of(model, weights),
        info=info,
        own_norm=None if weights.final_norm.kind == "none" else lambda x: model.ln_final(x.to(weights.W_U.dtype)),
        vocabulary=vocabulary_of(model),
        source=model,
    )


def _described(model: Any, weights: ModelWeights) -> dict[str, Any]:
    """A model's entries in the `info` of results."""
    info = identity(model)
    if getattr(model.cfg, "parallel_attn_mlp", False):
        info["parallel_attn_mlp"] = True  # no depth lies between a layer's attention and its MLP
    if getattr(model, "compatibility_mode", False):
        info["weights"] = "folded by enable_compatibility_mode"  # heads are without their value biases
    if weights.logit_cap is not None:
        info["logits"] = f"before the soft cap of {weights.logit_cap:g}"
    return info
