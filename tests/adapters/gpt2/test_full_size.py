"""gpt2-small's size and tokenizer with random weights, against float64 from Hugging Face's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

import maze_dla as dla
from maze_dla.adapters.gpt2.load import load_gpt2

from .reference_gpt2 import ReferenceGPT2

pytestmark = pytest.mark.slow
NEURON_LAYERS = (0, 7)
ATOL = 1e-4


@pytest.fixture(scope="module")
def model(full_size: Path, tmp_path_factory: pytest.TempPathFactory, laid_out_in_cache) -> Any:
    """Loaded by name, out of a hub cache."""
    from huggingface_hub import constants

    hub = tmp_path_factory.mktemp("hub")
    laid_out_in_cache(full_size, hub, "openai-community/gpt2")
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MAZE_DLA_GPT2", raising=False)
        patched.setattr(constants, "HF_HUB_CACHE", str(hub))
        patched.setattr(constants, "HF_HUB_OFFLINE", True)
        return load_gpt2("gpt2-small")


@pytest.fixture(scope="module")
def batch(model: Any) -> dla.IOIPromptBatch:
    return dla.ioi_prompts(model)


@pytest.fixture(scope="module")
def result(model: Any, batch: dla.IOIPromptBatch) -> dla.AttributionResult:
    return dla.attribute(model, batch, dla.logit_diff(batch), neurons=True, sources=True)


@pytest.fixture(scope="module")
def reference(full_size: Path, batch: dla.IOIPromptBatch) -> list[ReferenceGPT2]:
    hf = GPT2LMHeadModel.from_pretrained(full_size, attn_implementation="eager").double().eval()
    return [ReferenceGPT2(hf, batch.tokens[i].tolist()) for i in range(len(batch))]


@pytest.fixture(scope="module")
def answers(batch: dla.IOIPromptBatch) -> list[tuple[int, int]]:
    return list(zip(batch.targets.tolist(), batch.incorrect.tolist(), strict=True))


def by_prompt(reference: list[ReferenceGPT2], answers: list[tuple[int, int]], compute: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([torch.as_tensor(compute(p, *a)).double() for p, a in zip(reference, answers, strict=True)])


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=ATOL)


def test_the_sizes(result: dla.AttributionResult) -> None:
    assert (len(result), len(result.layer_labels), result.heads[0].numel()) == (8, 26, 144)
    assert len(result.lens().labels) == 25


def test_metric_and_scale(result, reference, answers) -> None:
    close(result.metric, by_prompt(reference, answers, lambda p, c, i: p.logits[c] - p.logits[i]))
    close(result.final_scale, by_prompt(reference, answers, lambda p, c, i: p.scale()))
    close(result.constant, by_prompt(reference, answers, lambda p, c, i: p.constant(c, i)))


@pytest.mark.parametrize("scale", ["final", "own"])
def test_depths(model, batch, reference, answers, scale: str) -> None:
    lens = dla.logit_lens(model, batch, dla.logit_diff(batch), scale=scale)
    expected = by_prompt(reference, answers, lambda p, c, i: [p.depth(name, c, i, scale) for name in lens.labels])
    close(lens.values, expected)


def test_layers(result, reference, answers) -> None:
    assert result.layer_labels == tuple(reference[0].layers)
    close(result.layers, by_prompt(reference, answers, lambda p, c, i: p.add(torch.stack([*p.layers.values()]), c, i)))


def test_heads(result, reference, answers) -> None:
    close(result.heads, by_prompt(reference, answers, lambda p, c, i: p.add(torch.stack(p.heads), c, i)))


def test_sources(result, reference, answers) -> None:
    close(result.sources, by_prompt(reference, answers, lambda p, c, i: p.add(torch.stack(p.sources), c, i)))
    close(result.patterns, by_prompt(reference, answers, lambda p, c, i: torch.stack(p.patterns)))


@pytest.mark.parametrize("layer", NEURON_LAYERS)
def test_neurons(result, reference, answers, layer: int) -> None:
    close(result.neurons[:, layer], by_prompt(reference, answers, lambda p, c, i: p.add(p.neurons[layer], c, i)))


def test_token_lens_ends_at_the_models_distribution(model, batch, reference) -> None:
    tokens = dla.token_lens(model, batch, k=3)
    for i, one in enumerate(reference):
        expected = one.logits.softmax(-1).topk(3)
        assert tokens.top_ids[i, -1].tolist() == expected.indices.tolist()
        close(tokens.top_probs[i, -1], expected.values)


def test_heads_without_value_biases_are_those_of_processed_weights(full_size: Path, reference, answers) -> None:
    """The literature folds the first norm into W_V and b_V, and b_V into b_O: heads lose what biases gave them."""
    processed = load_gpt2(full_size)
    if hasattr(processed, "enable_compatibility_mode"):
        processed.enable_compatibility_mode(disable_warnings=True)
    else:  # a HookedTransformer
        processed.process_weights_()
    batch = dla.ioi_prompts(processed)
    result = dla.attribute(processed, batch, dla.logit_diff(batch))
    heads = by_prompt(reference, answers, lambda p, c, i: p.add(torch.stack(p.heads) - torch.stack(p.value_bias), c, i))
    close(result.heads, heads)
    close(result.layers, by_prompt(reference, answers, lambda p, c, i: p.add(torch.stack([*p.layers.values()]), c, i)))


def test_the_name(model: Any) -> None:
    assert model.cfg.model_name == "gpt2-small"
