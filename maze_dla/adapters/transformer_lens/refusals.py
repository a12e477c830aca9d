"""Models of TransformerLens that cannot be attributed exactly, refused by the name of the feature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from maze_dla.errors import MazeDlaError, ModelError

# the parts that a decoder of a plain sum may consist of; vision and audio do nothing where the prompts are text
DECODER_PARTS = {"embed", "embed_ln", "pos_embed", "rotary_emb", "blocks", "ln_final", "unembed"}
OTHER_SENSES = ("vision", "audio")
BLOCK_PARTS = {"attn", "mlp", "ln1", "ln2"}
OTHER_LISTS_OF_BLOCKS = ("encoder_blocks", "decoder_blocks", "L_blocks", "H_blocks", "prelude", "core_block")
LATENT = ("kv_a_proj_with_mqa", "kv_a_proj", "kv_b_proj")  # projections of multi-head latent attention
POST_NORMS = ("post_feedforward_layernorm",)  # as transformers calls them
INNER_PARTS = (("attn", "attn_sub_norm"), ("mlp", "ffn_sub_norm"), ("attn", "g_proj"))  # norms, and a gate of heads
FOREIGN_ERRORS = (
    *(AttributeError, LookupError, TypeError, ValueError, RuntimeError, AssertionError, ImportError),
    ReferenceError,  # of a copied TransformerBridge whose original has gone
)


@contextmanager
def foreign_errors_named(name: str, doing: str) -> Iterator[None]:
    """Errors of torch and TransformerLens inside, as a `ModelError` that names the model and what was tried."""
    try:
        yield
    except FOREIGN_ERRORS as problem:
        if isinstance(problem, (MazeDlaError, torch.OutOfMemoryError)):
            raise
        reason = (str(problem).splitlines() or [""])[0]
        raise ModelError(f"{name}: {doing} ended in {type(problem).__name__}: {reason}") from problem


def refuse_what_does_not_add_up(model: Any) -> None:
    """Refuse features under which contributions at a frozen final norm do not sum to the logits.

    Raises:
        ModelError: naming the feature.
    """
    cfg = model.cfg
    _refuse_other_than_decoders(model)
    _refuse_norms_elsewhere(model)
    if (looks := getattr(cfg, "attention_dir", None) or "causal") != "causal":
        raise ModelError(f"the model's attention is {looks}: a prompt's numbers would depend on what stands behind it")
    if cfg.n_layers < 1:
        raise ModelError(f"the model has {cfg.n_layers} layers, expected at least one")
    _refuse_other_ways(model)
    for i, block in enumerate(model.blocks):
        _refuse_other_parts(block, i, attn_only=bool(getattr(cfg, "attn_only", False)))
    _refuse_what_is_inside(model)


def _refuse_other_than_decoders(model: Any) -> None:
    cfg = model.cfg
    for sense in ("audio", "visual"):
        if getattr(cfg, f"is_{sense}_model", False):
            raise ModelError(f"the model reads no tokens, it is of the kind: {sense}")
    if not hasattr(model, "blocks"):
        found = [name for name in OTHER_LISTS_OF_BLOCKS if hasattr(model, name)]
        raise ModelError(
            f"expected a decoder with one list of blocks, the model has {' and '.join(found) or 'none'}: "
            "encoder-decoders and models that pass their blocks several times are not sums of their layers"
        )


def _refuse_norms_elsewhere(model: Any) -> None:
    """Norms after what is written or after the sum, and projections in place of the final norm."""
    cfg = model.cfg
    norms = [name for name in ("ln1_post", "ln2_post") if any(hasattr(block, name) for block in model.blocks)]
    wrapped = [getattr(block, "original_component", None) for block in model.blocks]
    if not norms:  # some versions of TransformerLens call these norms ln1 and ln2
        norms = [name for name in POST_NORMS if any(hasattr(block, name) for block in wrapped)]
    if norms or getattr(cfg, "use_normalization_before_and_after", False):
        raise ModelError(
            f"the model has a norm behind attention or MLP ({' and '.join(norms) or 'in its config'}): "
            "what a head writes passes that norm, and its contribution is not a plain sum"
        )
    width = getattr(cfg, "word_embed_proj_dim", None)
    if width is not None and width != cfg.d_model:
        raise ModelError(
            f"the model projects embeddings of word_embed_proj_dim {width} to d_model {cfg.d_model} and back: "
            "its unembedding does not read the residual stream"
        )
    after_the_sum = getattr(cfg, "do_layer_norm_before", True) is False
    if after_the_sum or (getattr(cfg, "normalization_type", None) and not hasattr(model, "ln_final")):
        raise ModelError(
            "the model normalizes after each sum (post-norm) and has no final norm: its residual stream is not a sum"
        )


def _refuse_what_is_inside(model: Any) -> None:
    """Norms and gates between what heads or neurons hold and what they write, and sums of other things."""
    wrapped = [getattr(block, "original_component", None) for block in model.blocks]
    for part, inner in INNER_PARTS:
        owners = (getattr(getattr(block, part, None), "original_component", None) for block in model.blocks)
        if any(hasattr(owner, inner) for owner in owners):
            raise ModelError(
                f"the model has {inner} inside {part}, a norm or gate between what is moved and what is written"
            )
    if getattr(model.cfg, "gated_q_proj", False):
        raise ModelError("the model's attention is gated (gated_q_proj): a head is not its pattern times its values")
    if any(getattr(block, "apply_residual_connection_post_layernorm", False) for block in wrapped):
        raise ModelError(
            "the model adds to the stream after its norm (apply_residual_connection_post_layernorm): it is not a sum"
        )


def _refuse_other_ways(model: Any) -> None:
    """Parts between the blocks and the unembedding, or beside the blocks, that no component stands for."""
    mapped = getattr(getattr(model, "adapter", None), "component_mapping", None) or {}
    others = [name for name in mapped if name not in DECODER_PARTS and not name.startswith(OTHER_SENSES)]
    if others:
        raise ModelError(
            f"the model has {' and '.join(others)} beside its embeddings, blocks, final norm and unembedding: "
            "what passes through that is not a plain sum"
        )


def _refuse_other_parts(block: Any, i: int, attn_only: bool) -> None:
    """Blocks that write with other things than heads and an MLP: state space models, convolutions, latent attention."""
    known = getattr(block, "submodules", None)
    parts = [name for name, _ in block.named_children() if known is None or name in known]
    others = [name for name in parts if name not in BLOCK_PARTS and known is not None]
    if others:
        raise ModelError(f"layer {i} has {' and '.join(others)} beside attention and MLP, which is no sum of heads")
    needed = ["attn"] if attn_only else ["attn", "mlp"]
    if missing := [name for name in needed if name not in parts]:
        inside = [name for name, _ in getattr(block, "original_component", block).named_children()]
        there = " and ".join(parts or inside) or "nothing"
        raise ModelError(f"layer {i} has no {' and no '.join(missing)} that is known, it has {there}")
    latent = [name for name in LATENT if _has_part(block.attn, name)]
    if latent or "MLA" in type(block.attn).__name__:
        raise ModelError(
            f"layer {i} has multi-head latent attention ({' and '.join(latent) or type(block.attn).__name__}): "
            "its values are not read from the residual stream head by head"
        )
    if not hasattr(block.attn, "W_O"):
        raise ModelError(f"layer {i} has attention without W_O ({type(block.attn).__name__}): it is no sum of heads")


def _has_part(module: nn.Module, name: str) -> bool:
    return name in dict(module.named_children())
