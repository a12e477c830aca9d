"""Hugging Face models in memory as models of TransformerLens."""

from __future__ import annotations

from typing import Any


def bridge_hugging_face(hf_model: Any, tokenizer: Any, name: str) -> Any:
    """A `TransformerBridge` around a causal language model of transformers, with its weights as they are.

    The Hugging Face model becomes part of the bridge and should not be used by itself afterwards. Nothing is looked
    up outside: without a tokenizer the bridge has none.
    """
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    hf_model.set_attn_implementation("eager")  # the only one that shows attention patterns
    architecture = type(hf_model).__name__
    bridge = build_bridge_from_module(
        hf_model, architecture, hf_config=hf_model.config, tokenizer=tokenizer, model_name=name
    )
    return bridge.eval()
