"""Every architecture that TransformerLens can make of a small random config: right, or refused by name."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import Any

import pytest
import torch
import transformers

import maze_dla as dla
from maze_dla.errors import ModelError

sources = pytest.importorskip(
    "transformer_lens.model_bridge.sources", reason="this version of TransformerLens has no bridges to Hugging Face"
)
factory = pytest.importorskip("transformer_lens.factories.architecture_adapter_factory")

from .reference_sums import ReferenceSums  # noqa: E402
from .tiny_models import VOCAB, tiny_model  # noqa: E402

PROMPTS = [[3, 9, 14, 5, 8], [4, 60, 11]]
MOE = (
    *("Ernie4_5_Moe", "Glm4Moe", "GptOss", "GraniteMoe", "Llama4", "MiniMaxM2", "Mixtral", "Olmoe", "Qwen2Moe"),
    *("Qwen3Moe",),
)
POST_NORM, TWO_STACKS, OTHER_PARTS = "a norm behind attention or MLP", "expected a decoder", "beside attention and MLP"
LATENT, BOTH_WAYS, NO_TOKENS = "multi-head latent attention", "attention is bidirectional", "reads no tokens"
REFUSED = {
    **dict.fromkeys(("Afmoe", "FlexOlmo", "Exaone4", "Gemma2", "Gemma3", "Gemma4", "Glm4"), POST_NORM),
    **dict.fromkeys(("Gemma4Unified", "Glm4v", "Olmo2", "Olmo3"), POST_NORM),
    **dict.fromkeys(("OlmoHybrid",), f"{POST_NORM}|{OTHER_PARTS}"),
    **dict.fromkeys(("Bart", "Blenderbot", "LED", "LongT5", "M2M100", "MarianMTModel", "MBart"), TWO_STACKS),
    **dict.fromkeys(("MT5", "Pegasus", "SwitchTransformers", "T5", "T5Gemma", "T5Gemma2", "HrmText"), TWO_STACKS),
    **dict.fromkeys(("Bamba", "FalconH1", "FalconMamba", "GraniteMoeHybrid", "Jamba", "Lfm2", "Lfm2Moe"), OTHER_PARTS),
    **dict.fromkeys(("Mamba", "Mamba2", "NemotronH", "Qwen3Next", "Qwen3_5", "Qwen3_5Moe"), OTHER_PARTS),
    **dict.fromkeys(("Rwkv", "Zamba2"), OTHER_PARTS),
    **dict.fromkeys(("DeepseekV2", "DeepseekV3", "Glm4MoeLite", "GlmMoeDsa", "Youtu"), LATENT),
    **dict.fromkeys(("BertForMaskedLM", "BertLMHeadModel", "RobertaForMaskedLM"), f"{BOTH_WAYS}|mlm_head beside"),
    **dict.fromkeys(("ViTModel", "ViTForImageClassification", "DeiTModel", "DeiTForImageClassification"), NO_TOKENS),
    **dict.fromkeys(("ASTForAudioClassification", "HubertForCTC", "HubertModel", "Wav2Vec2ForCTC"), NO_TOKENS),
    **dict.fromkeys(("Wav2Vec2ForPreTraining", "Wav2Vec2Model"), NO_TOKENS),
    "BitNet": "attn_sub_norm inside attn",
    "DeepseekV4": "hc_head beside",
    "JetMoe": "attention without W_O",
    "Laguna": "g_proj inside attn",
    "ModernBertDecoder": "prediction_head beside",
    "OpenAIGPTLMHeadModel": "normalizes after each sum",
    "RecurrentGemma": "no attn and no mlp that is known",
}  # fmt: skip
GRANITE = {"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "logits_scaling": 8.0}
BIASES = {"attention_bias": True, "mlp_bias": True}
VARIANTS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "Granite, all multipliers": ("GraniteForCausalLM", GRANITE, None),
    "GraniteMoe, all multipliers": ("GraniteMoeForCausalLM", GRANITE, None),
    "Cohere, another logit scale": ("CohereForCausalLM", {"logit_scale": 0.7}, None),
    "OPT, narrow embeddings": ("OPTForCausalLM", {"word_embed_proj_dim": 16}, "word_embed_proj_dim 16"),
    "OPT, post-norm": ("OPTForCausalLM", {"do_layer_norm_before": False}, "post-norm"),
    "Falcon, ALiBi": ("FalconForCausalLM", {"alibi": True, "parallel_attn": False}, None),
    "Falcon, two norms": ("FalconForCausalLM", {"new_decoder_architecture": True, "num_kv_heads": 1}, None),
    "NeoX, sequential": ("GPTNeoXForCausalLM", {"use_parallel_residual": False}, None),
    "StableLm, parallel": ("StableLmForCausalLM", {"use_parallel_residual": True, "qk_layernorm": True}, None),
    "Llama, one key, biases": ("LlamaForCausalLM", {"num_key_value_heads": 1, **BIASES}, None),
    "Bloom, residual after the norm": (
        "BloomForCausalLM", {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post",
    ),
    "Qwen3Next, attention alone": ("Qwen3NextForCausalLM", {"layer_types": ["full_attention"] * 2}, "gated_q_proj"),
    "Lfm2, attention alone": ("Lfm2ForCausalLM", {"layer_types": ["full_attention"] * 2}, None),
    "Bamba, attention alone": ("BambaForCausalLM", {"attn_layer_indices": [0, 1]}, None),
    "Qwen2Moe, one dense layer": ("Qwen2MoeForCausalLM", {"mlp_only_layers": [0]}, None),
}  # fmt: skip


def short(architecture: str) -> str:
    return re.sub("(ForCausalLM|ForConditionalGeneration)$", "", architecture)


KNOWN = [name for name in factory.SUPPORTED_ARCHITECTURES if hasattr(transformers, name)]
CASES = {name: (name, {}, REFUSED.get(short(name))) for name in KNOWN} | VARIANTS
ADDED = [name for name, (_, _, refusal) in CASES.items() if refusal is None]


@cache
def bridge(case: str, folded: bool) -> Any:
    """The model as a bridge; a test is skipped where these versions of the libraries cannot make or fold it."""
    architecture, settings, _ = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            hf = tiny_model(architecture, **settings)
            if hf is None:
                return "transformers makes no small model of it"
            model = sources.build_bridge_from_module(hf, architecture, hf_config=hf.config, model_name="small").eval()
            if folded:
                model.enable_compatibility_mode(disable_warnings=True)
        except Exception as problem:  # whatever other people's libraries raise
            return f"{type(problem).__name__}: {problem}"
    return model


def booted(case: str, folded: bool = False) -> Any:
    model = bridge(case, folded)
    if isinstance(model, str):
        pytest.skip(f"cannot be made here: {model}")
    return model


@cache
def asked() -> tuple[dla.PromptBatch, dla.LinearMetric]:
    batch = dla.PromptBatch.from_tokens(PROMPTS, targets=[5, 7], d_vocab=VOCAB)
    return batch, dla.correct_vs_other(batch)


@cache
def attributed(case: str, folded: bool = False) -> dla.AttributionResult:
    """The result of a model that can be run; where TransformerLens itself cannot, that is what the error says."""
    batch, metric = asked()
    model = booted(case, folded)
    try:
        with torch.no_grad():
            model(torch.tensor(PROMPTS[:1]))
    except Exception as problem:  # whatever other people's libraries raise
        with pytest.raises(ModelError, match=f"running it ended in {type(problem).__name__}"):
            dla.attribute(model, batch, metric)
        pytest.skip(f"cannot be run here: {problem}")
    return dla.attribute(model, batch, metric, neurons=True, sources=True)


@pytest.mark.parametrize("case", ADDED)
def test_numbers_are_those_of_the_modules(case: str) -> None:
    result, (_, metric) = attributed(case), asked()
    architecture, settings, _ = CASES[case]
    hf, mapping = tiny_model(architecture, **settings), booted(case).adapter.component_mapping
    with torch.no_grad():
        if float((hf(torch.tensor(PROMPTS[:1])).logits - booted(case)(torch.tensor(PROMPTS[:1]))).abs().max()) > 1e-4:
            pytest.skip("this version of TransformerLens has other logits than Hugging Face")
    for i, (ids, c) in enumerate(zip(PROMPTS, metric.coefficients(), strict=True)):
        reference = ReferenceSums(hf, mapping, ids, settings.get("residual_multiplier", 1.0))
        with torch.no_grad():
            same(result.metric[i], reference.before_a_cap() @ c.double())
            embedded = [k for k, label in enumerate(result.layer_labels) if not label.endswith("_out")]
            same(result.layers[i, embedded].sum(), reference.add(reference.start, c))
            written = result.layers[i, len(embedded) :].view(reference.n_layers, 2)
            for layer in range(reference.n_layers):
                same(result.heads[i, layer], reference.add(reference.heads(layer, result.heads.shape[2]), c))
                same(written[layer], reference.add(torch.stack([reference.attention(layer), reference.mlp(layer)]), c))


def same(seen: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(seen.double(), expected.double(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("case", ADDED)
def test_other_readings_of_the_same(case: str) -> None:
    """The lens, the model run with hooks, and the model folded say the same; experts have no neurons."""
    batch, metric = asked()
    result, model = attributed(case), booted(case)
    lens = dla.logit_lens(model, batch, metric)
    assert result.lens().labels == lens.labels
    same(result.lens().values, lens.values)
    if "pos_embed" in result.layer_labels:  # others are always run with hooks
        hooked = dla.attribute(model, batch, metric, forward="hooked")
        same(hooked.layers, result.layers)
        same(hooked.heads, result.heads)
    assert (result.neurons is None) == (short(CASES[case][0]) in MOE)
    folded = attributed(case, True)
    if float((folded.metric - result.metric).abs().max()) > 1e-3:
        pytest.skip("TransformerLens folds it to a model with other logits")
    same(folded.layers, result.layers)
    same(folded.constant, result.constant)


@pytest.mark.parametrize("case", [name for name in CASES if name not in ADDED])
def test_refused_by_name(case: str) -> None:
    batch, metric = asked()
    model = booted(case)
    for engine in ("auto", "hooked"):
        with pytest.raises(ModelError, match=CASES[case][2]):
            dla.attribute(model, batch, metric, forward=engine)


@pytest.mark.parametrize("case", {refusal: case for case, (_, _, refusal) in CASES.items() if refusal}.values())
def test_refused_by_name_when_folded(case: str) -> None:
    batch, metric = asked()
    with pytest.raises(ModelError, match=CASES[case][2]):
        dla.attribute(booted(case, folded=True), batch, metric)
