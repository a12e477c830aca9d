"""Small random models of many architectures, and what transformers itself says that their parts write.

Nothing here knows TransformerLens or maze_dla: parts are caught on the Hugging Face model's own modules, pushed
forward through its final norm at a frozen scale and through its head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

VOCAB = 61
TOKENS = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
WIDE = {"hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40, "max_position_embeddings": 48}
HEADS, GROUPED = {"num_attention_heads": 3}, {"num_attention_heads": 4, "num_key_value_heads": 2}
SIX = {"head_dim": 6}
OPT = {**WIDE, **HEADS, "ffn_dim": 40, "word_embed_proj_dim": 24}
FALCON = {"hidden_size": 24, "num_hidden_layers": 2, "new_decoder_architecture": False, **HEADS}
GPTJ = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 48}
SCALED = {"logits_scaling": 4.0, "residual_multiplier": 1.0, "embedding_multiplier": 3.0}


@dataclass(frozen=True)
class Architecture:
    """A config's class and settings, and where attention's and the MLP's last layers and the final norm stand."""

    config: str
    settings: dict[str, Any]
    attn: str = "model.layers.{}.self_attn.o_proj"
    mlp: str = "model.layers.{}.mlp.down_proj"
    norm: str = "model.norm"
    kind: str = "rms"  # or "layer", and "one plus" for a weight that counts from one


LLAMA_LIKE = {
    name: Architecture(f"{name}Config", {**WIDE, **GROUPED, **more})
    for name, more in {"Llama": {}, "Mistral": {}, "Qwen2": {}, "Qwen3": SIX}.items()
}
ARCHITECTURES = {
    **LLAMA_LIKE,
    "GPT2": Architecture(
        "GPT2Config", GPTJ, "transformer.h.{}.attn.c_proj", "transformer.h.{}.mlp.c_proj", "transformer.ln_f", "layer"
    ),
    "GPTJ, parallel and rotary": Architecture(
        "GPTJConfig", {**GPTJ, "rotary_dim": 4}, "transformer.h.{}.attn.out_proj", "transformer.h.{}.mlp.fc_out",
        "transformer.ln_f", "layer",
    ),
    "Pythia, parallel": Architecture(
        "GPTNeoXConfig", {**WIDE, **HEADS}, "gpt_neox.layers.{}.attention.dense",
        "gpt_neox.layers.{}.mlp.dense_4h_to_h", "gpt_neox.final_layer_norm", "layer",
    ),
    "Phi, parallel": Architecture(
        "PhiConfig", {**WIDE, **HEADS}, "model.layers.{}.self_attn.dense", "model.layers.{}.mlp.fc2",
        "model.final_layernorm", "layer",
    ),
    "OPT": Architecture(
        "OPTConfig", OPT, "model.decoder.layers.{}.self_attn.out_proj", "model.decoder.layers.{}.fc2",
        "model.decoder.final_layer_norm", "layer",
    ),
    "Gemma, scaled embedding": Architecture("GemmaConfig", {**WIDE, **GROUPED, **SIX}, kind="one plus rms"),
    "Falcon, one key for all heads": Architecture(
        "FalconConfig", {**FALCON, "parallel_attn": True, "multi_query": True},
        "transformer.h.{}.self_attention.dense", "transformer.h.{}.mlp.dense_4h_to_h", "transformer.ln_f", "layer",
    ),
    "Granite, scaled logits": Architecture("GraniteConfig", {**WIDE, **GROUPED, **SCALED}),
    "Cohere, parallel and scaled logits": Architecture(
        "CohereConfig", {**WIDE, **GROUPED, "logit_scale": 0.25}, kind="layer"
    ),
}  # fmt: skip
POST_NORMS = {
    "Gemma2": Architecture("Gemma2Config", {**WIDE, **GROUPED, **SIX, "final_logit_softcapping": None}),
    "Olmo2": Architecture("Olmo2Config", {**WIDE, **HEADS}),
}


def random_model(architecture: Architecture, seed: int = 0) -> Any:
    """Hugging Face's model with all weights random."""
    config = getattr(transformers, architecture.config)(**TOKENS, **architecture.settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return model


class Caught:
    """One prompt through the model, in float64: what came into some modules, at the last position."""

    def __init__(self, hf: Any, architecture: Architecture, ids: list[int]) -> None:
        self.hf, self.architecture = hf.double(), architecture
        names = [part.format(i) for part in (architecture.attn, architecture.mlp) for i in range(2)]
        self.inputs: dict[str, Tensor] = {}
        hooks = [
            hf.get_submodule(name).register_forward_pre_hook(self._keep(name)) for name in (*names, architecture.norm)
        ]
        with torch.no_grad():
            self.logits = hf(torch.tensor([ids])).logits[0, -1]
        for hook in hooks:
            hook.remove()

    def _keep(self, name: str) -> Any:
        def keep(module: Any, arguments: Any) -> None:
            self.inputs[name] = arguments[0].reshape(-1, arguments[0].shape[-1])[-1]

        return keep

    def heads(self, layer: int, n_heads: int) -> Tensor:
        """[head, d_model]: the vector that each head writes."""
        name = self.architecture.attn.format(layer)
        z = self.inputs[name].unflatten(0, (n_heads, -1))
        return torch.einsum("he,hed->hd", z, self._weight(name).unflatten(0, (n_heads, -1)))

    def neurons(self, layer: int) -> Tensor:
        """[neuron, d_model]: the vector that each neuron writes."""
        name = self.architecture.mlp.format(layer)
        return self.inputs[name][:, None] * self._weight(name)

    def _weight(self, name: str) -> Tensor:
        """[in, out]"""
        module = self.hf.get_submodule(name)
        return module.weight.T if isinstance(module, torch.nn.Linear) else module.weight

    def add(self, vectors: Tensor, coefficients: Tensor) -> Tensor:
        """The contribution of vectors [..., d_model] to a metric of the logits, the final norm frozen."""
        norm, kind = self.hf.get_submodule(self.architecture.norm), self.architecture.kind
        final = self.inputs[self.architecture.norm]
        eps = next(getattr(norm, n) for n in ("variance_epsilon", "eps") if hasattr(norm, n))
        if kind == "layer":
            vectors, final = vectors - vectors.mean(-1, keepdim=True), final - final.mean()
        scale = (final.square().mean() + eps).sqrt()
        weight = 1 + norm.weight if kind.startswith("one plus") else norm.weight
        config = self.hf.config
        factor = getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
        return vectors / scale * weight @ self.hf.get_output_embeddings().weight.T @ coefficients * factor
