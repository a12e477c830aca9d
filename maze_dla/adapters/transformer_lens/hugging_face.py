"""Hugging Face models in memory as models of TransformerLens, with the newest class that is installed."""

from __future__ import annotations

from typing import Any

from maze_dla.adapters.transformer_lens.build import DecoderSpec, hooked_transformer


def from_hugging_face(hf_model: Any, tokenizer: Any, name: str) -> Any:
    """A TransformerLens model with the weights of a GPT-2 of transformers, as they are.

    A `TransformerBridge` where TransformerLens has it: the Hugging Face model then becomes part of the bridge and
    should not be used by itself afterwards; it shows attention patterns where it was set to the "eager" implementation.
    Before version 3 a `HookedTransformer`. Nothing is looked up outside: without a tokenizer the model has none.
    """
    try:
        from transformer_lens.model_bridge.sources import build_bridge_from_module
    except ImportError:
        return _hooked_gpt2(hf_model, tokenizer, name).eval()
    architecture = type(hf_model).__name__
    return build_bridge_from_module(
        hf_model, architecture, hf_config=hf_model.config, tokenizer=tokenizer, model_name=name
    ).eval()


def _hooked_gpt2(hf_model: Any, tokenizer: Any, name: str) -> Any:
    from transformer_lens.pretrained.weight_conversions import gpt2  # pyright: ignore (before version 3)

    config = hf_model.config
    spec = DecoderSpec(
        n_layers=config.n_layer,
        n_heads=config.n_head,
        d_model=config.n_embd,
        d_head=config.n_embd // config.n_head,
        d_mlp=config.n_inner or 4 * config.n_embd,
        d_vocab=config.vocab_size,
        n_ctx=config.n_positions,
        act_fn=config.activation_function,
        name=name,
        eps=config.layer_norm_epsilon,
        use_attn_scale=config.scale_attn_weights,
        scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
    )
    state = gpt2.convert_gpt2_weights(hf_model, spec)
    state["unembed.b_U"] = state["unembed.W_U"].new_zeros(config.vocab_size)
    model = hooked_transformer(spec, {key: tensor.detach().clone() for key, tensor in state.items()})
    if tokenizer is not None:
        model.set_tokenizer(tokenizer)
    return model
