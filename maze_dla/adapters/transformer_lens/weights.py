"""The weights of a TransformerLens model, as they are stored, in the engine's vocabulary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from maze_dla.adapters.transformer_lens.refusals import refuse_what_does_not_add_up
from maze_dla.engine.model import BlockWeights, ModelShape, ModelWeights, Norm
from maze_dla.engine.precision import at_least_single

NORMED, INNER_NORM = "_ln", "ln"  # how activation functions with a norm behind them end, and what that norm is called


def model_weights(model: Any) -> ModelWeights:
    """The weights that a model writes and reads out with; copied is only what TransformerLens itself copies.

    Raises:
        ModelError: a model whose residual stream is not a plain sum.
    """
    cfg = model.cfg
    refuse_what_does_not_add_up(model)
    with torch.no_grad():
        blocks = _all_block_weights(model, bool(getattr(cfg, "attn_only", False)))
        scale = _logit_scale(model)
        W_U, b_U = model.W_U.detach(), parameter(model, "b_U")
        if scale != 1.0:
            W_U, b_U = W_U * scale, None if b_U is None else b_U * scale
    d_mlp = None if blocks[0].W_out is None else blocks[0].W_out.shape[0]
    sizes = (cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_head, d_mlp, W_U.shape[1], cfg.n_ctx, tokens_read(model))
    sizes = (*sizes, getattr(cfg, "n_key_value_heads", None) or cfg.n_heads)
    norm = _final_norm(model)
    cap = float(getattr(cfg, "output_logits_soft_cap", None) or 0.0)
    return ModelWeights(
        ModelShape(*sizes), _precision(model, norm, W_U), blocks, norm, W_U, b_U, cap if cap > 0 else None
    )


def _all_block_weights(model: Any, attn_only: bool) -> tuple[BlockWeights, ...]:
    """The weights that each block writes with; no neurons where their number varies (mixtures of experts)."""
    factor = _write_factor(model)
    blocks = tuple(_block_weights(block, attn_only, factor) for block in model.blocks)
    if str(getattr(model.cfg, "act_fn", "")).endswith(NORMED) and all(block.W_out is not None for block in blocks):
        norms = [_inner_norm(block.mlp) for block in model.blocks]
        blocks = tuple(replace(block, inner_norm=norm) for block, norm in zip(blocks, norms, strict=True))
    if len({None if block.W_out is None else len(block.W_out) for block in blocks}) > 1:
        return tuple(replace(block, W_out=None, b_out=None) for block in blocks)
    return blocks


def _block_weights(block: Any, attn_only: bool, factor: float) -> BlockWeights:
    mlp = None if attn_only else getattr(block, "mlp", None)
    W_out = parameter(mlp, "W_out")
    found = (block.attn.W_O.detach(), parameter(block.attn, "b_O"), W_out)
    found = (*found, None if W_out is None else parameter(mlp, "b_out"))
    return BlockWeights(*(w if w is None or factor == 1.0 else w * factor for w in found))  # pyright: ignore


def _inner_norm(mlp: Any) -> Norm | None:
    """The norm inside an MLP, by what it makes of one vector: versions differ in its kind and in what they fold."""
    module = getattr(mlp, INNER_NORM, None)
    if not isinstance(module, nn.Module):
        return None
    weight, bias = parameter(module, "w"), parameter(module, "b")
    eps = float(getattr(module, "eps", None) or 1e-5)
    known = [Norm(kind, *given, eps) for kind in ("layer", "rms") for given in ((weight, bias), (None, None))]
    probe = _probe(len(mlp.W_out), mlp.W_out)
    return min(known, key=lambda norm: _apart(module, probe, norm))


def _write_factor(model: Any) -> float:
    """The factor of Granite's blocks before they add to the stream; their hooks show the product."""
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
    """A norm's kind by the config's words, its weight and bias where it has them.

    A config that several models share says that all are folded once one is: then the norm's own output decides.
    """
    kind = model.cfg.normalization_type
    if kind is None:
        return Norm("none")
    name = "rms" if kind.upper().startswith("RMS") else "layer"
    weight, bias, eps = parameter(module, "w"), parameter(module, "b"), float(model.cfg.eps)
    given, folded = Norm(name, weight, bias, eps), Norm(name, None, None, eps)
    if not kind.upper().endswith("PRE"):
        return given
    if weight is None:
        return folded
    probe = _probe(len(weight), weight)
    return min(folded, given, key=lambda norm: _apart(module, probe, norm))


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
    return _apart(model.ln_final, _probe(model.W_U.shape[0], model.W_U), norm)


def _probe(size: int, like: Tensor) -> Tensor:
    """One vector that no norm leaves as it is, [1, 1, size]."""
    return torch.linspace(-1, 2, size, dtype=like.dtype, device=like.device).cos()[None, None]


def _apart(module: Any, probe: Tensor, norm: Norm) -> float:
    """How far a module and a norm are apart on one vector."""
    with torch.no_grad():
        own, ours = module(probe), norm.apply(probe, norm.scale(probe))
    return float((own - ours).abs().max())


def _precision(model: Any, norm: Norm, W_U: Tensor) -> torch.dtype:
    """The dtype that logits are computed in: some norms work in float32 inside a float64 model."""
    if W_U.dtype != torch.float64 or norm.kind == "none":
        return W_U.dtype
    return torch.float64 if _distance(model, norm) < 1e-11 else torch.float32


def _logit_scale(model: Any) -> float:
    """The factor of the unembedding's output: given as such in Cohere's models, as a divisor in Granite's.

    Cohere's factor is in W_U once compatibility mode has put it there.
    """
    adapter, cfg = getattr(model, "adapter", None), model.cfg
    factor = 1.0 if getattr(adapter, "_logit_scale_already_folded", False) else getattr(cfg, "logit_scale", None)
    return float(factor or 1.0) / float(getattr(cfg, "logits_scaling", None) or 1.0)
