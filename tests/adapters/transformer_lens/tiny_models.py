"""A small random model of every architecture that both TransformerLens and transformers know.

Nothing here knows maze_dla. Sizes go to whatever a config calls them; a few architectures need settings of their own.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import transformers

VOCAB = 61
WIDE, LAYERS, HEADS, INNER, CONTEXT = 24, 2, 3, 40, 48
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
TWO_STACKS = {
    **{"encoder_layers": LAYERS, "decoder_layers": LAYERS, "encoder_ffn_dim": INNER, "decoder_ffn_dim": INNER},
    **{"encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "d_ff": INNER, "d_kv": 8},
}
STATE_SPACE = {"state_size": 4, "ssm_state_size": 4, "mamba_d_state": 4, "mamba_n_groups": 1, "mamba_expand": 2}
SIGHT = {
    **{"projector_input_dim": 16, "projector_output_dim": 16, "vision_output_dim": 16, "adapter_dim": 16},
    **{"image_size": 8, "patch_size": 4, "depth": 1, "out_hidden_size": WIDE, "num_position_embeddings": 16},
}
SIZES = {
    **{"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "type_vocab_size": 2},
    **{"hidden_size": WIDE, "n_embd": WIDE, "d_model": WIDE, "word_embed_proj_dim": WIDE, "head_dim": 8},
    **{"num_hidden_layers": LAYERS, "n_layer": LAYERS, "n_layers": LAYERS, "num_layers": LAYERS},
    **{"num_attention_heads": HEADS, "num_key_value_heads": HEADS, "n_head": HEADS, "n_heads": HEADS},
    **{"num_heads": HEADS, "attention_heads": HEADS, "rotary_dim": 4, "expansion_ratio": 2},
    **{"intermediate_size": INNER, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    **{"max_position_embeddings": CONTEXT, "n_positions": CONTEXT, "max_seq_len": CONTEXT, "ffn_dim": INNER},
    **{"vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 4, "n_group": 1},
    **{"topk_group": 1, "first_k_dense_replace": 1},
    **EXPERTS, **LATENT, **TWO_STACKS, **STATE_SPACE, **SIGHT,
}  # fmt: skip
HYBRID, ATTENTION = "conv", "full_attention"
MAMBA = {"mamba_n_heads": 3, "mamba_d_head": 16}
OWN: dict[str, dict[str, Any]] = {
    "BambaForCausalLM": MAMBA,
    "GraniteMoeHybridForCausalLM": MAMBA,
    "DeepseekV4ForCausalLM": {"moe_intermediate_size": 8, "n_routed_experts": 2},
    "FalconForCausalLM": {"head_dim": None},
    "FalconH1ForCausalLM": {"mamba_d_ssm": 24, "mamba_n_heads": 3, "mamba_d_head": 8, "mamba_expand": 1},
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local"], 1]]},
    "Lfm2ForCausalLM": {"layer_types": [HYBRID, ATTENTION]},
    "Lfm2MoeForCausalLM": {"layer_types": [HYBRID, ATTENTION], "num_dense_layers": 1},
    "Mamba2ForCausalLM": {"num_heads": 6, "n_groups": 1},
    "MarianMTModel": {"decoder_start_token_id": 2},
    "Zamba2ForCausalLM": {"layers_block_type": ["mamba", "hybrid"]},
}
CONVOLUTIONS = {"conv_dim": [8], "conv_stride": [2], "conv_kernel": [4], "num_conv_pos_embeddings": 4}
OWN |= {
    name: {**CONVOLUTIONS, "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 1}
    for name in ("HubertForCTC", "HubertModel", "Wav2Vec2ForCTC", "Wav2Vec2ForPreTraining", "Wav2Vec2Model")
}
LARGEST = 2_000_000


def tiny_config(config: Any, **own: Any) -> Any:
    """A config with small sizes, and its text, vision or audio configs likewise."""
    known = {*dir(config), *getattr(config, "__dataclass_fields__", ()), *inspect.signature(config.__init__).parameters}
    known |= set(getattr(config, "attribute_map", None) or {})
    settings = {name: size for name, size in {**SIZES, **own}.items() if name in known or name in own}
    if getattr(config, "sub_configs", None):
        whole = config()
        parts = {name: getattr(whole, name, None) for name in config.sub_configs}
        settings |= {name: tiny_config(type(part)).to_dict() for name, part in parts.items() if part is not None}
    return config(**{name: value for name, value in settings.items() if value is not None or name not in SIZES})


def tiny_model(architecture: str, **settings: Any) -> Any:
    """Hugging Face's model with small sizes and all weights random; None where this config cannot make one small."""
    made = getattr(transformers, architecture)
    config = tiny_config(made.config_class, **{**OWN.get(architecture, {}), **settings})
    config._attn_implementation = "eager"  # the only one that shows patterns
    with torch.device("meta"):
        if sum(weight.numel() for weight in made(config).parameters()) > LARGEST:
            return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = made(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return model
