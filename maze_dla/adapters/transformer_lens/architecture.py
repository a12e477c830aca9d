"""Architectures by the config of TransformerLens."""

from __future__ import annotations

from typing import Any

# what a plain pre-norm decoder has nothing of, by the names of TransformerLens's config
NOT_PLAIN = (
    *("parallel_attn_mlp", "gated_mlp", "use_local_attn", "scale_attn_by_inverse_layer_idx", "post_embedding_ln"),
    *("num_experts", "use_qk_norm", "final_rms", "clip_qkv", "use_logn_attn", "use_attention_sinks"),
)


def is_pre_norm_decoder(cfg: Any) -> bool:
    """Whether a model has learned positions, attention and an MLP in each block, and no weight beside theirs."""
    return (
        cfg.positional_embedding_type == "standard"
        and not any(getattr(cfg, name, None) for name in NOT_PLAIN)
        and getattr(cfg, "n_key_value_heads", None) in (None, cfg.n_heads)
    )
